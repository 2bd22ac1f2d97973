/*
 * The upstream of the bench: a server that speaks OpenAI's chat and Ollama's, and costs next to nothing.
 *
 * Prints its port, then obeys lines on stdin, each answered by one line on stdout; ends with stdin.
 *   json                 answer every POST with a chat completion of 1.0 KB
 *   sse EVENTS GAP_US    stream EVENTS chunks of about 250 bytes (0: endless), one every GAP_US per stream (0: no gap),
 *                        each in a write of its own; then a finish reason, the usage and [DONE]
 *   silent               take every POST and never answer
 *   stats                {"requests":…,"open":…,"gone":…}: POSTs taken; now unanswered or streaming; left by their client
 *   reset                close all connections and forget the counts
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "wire.h"

#define CHUNK_HEAD "{\"id\":\"chatcmpl-bench0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"bench-model\",\"system_fingerprint\":\"fp_bench\","
#define CHOICE(delta, reason) "\"choices\":[{\"index\":0,\"delta\":" delta ",\"logprobs\":null,\"finish_reason\":" reason "}],\"usage\":null}"
#define STREAM_HEAD "HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
#define LINE_HEAD "{\"model\":\"bench-model\",\"created_at\":\"2026-01-01T00:00:00.000000000Z\","
#define LINE_END "\"done\":true,\"done_reason\":\"stop\",\"total_duration\":900000000,\"load_duration\":1000000,\"prompt_eval_count\":19,\"prompt_eval_duration\":2000000,\"eval_count\":200,\"eval_duration\":800000000}"
#define USAGE "{\"prompt_tokens\":19,\"completion_tokens\":200,\"total_tokens\":219}"

enum kind { JSON, SSE, SILENT };

struct connection {
  int fd;
  bool open;        /* a POST is unanswered or streaming */
  bool streaming;
  bool paced;       /* streaming, and in `streams` at `slot` */
  size_t slot;
  bool writable;    /* false: waiting for EPOLLOUT */
  long step;        /* of the stream: 0 head and role, 1… text, then finish, usage, done */
  long events;      /* how many of text; 0: endless */
  const struct voice *voice;
  const char *out;  /* what is being written; static bytes */
  size_t out_left;
  struct message in;
};

struct bytes { char *bytes; size_t length; };

/* What one API answers with; a frame of no length is not sent. */
struct voice { struct bytes reply, stream_head, text, finish, usage, done; };

static struct bytes models, missing, tags, show, empty;
static struct voice openai, ollama;
static struct connection *connections[CONNECTION_LIMIT], *streams[CONNECTION_LIMIT];
static size_t stream_count, stream_cursor;
static enum kind kind = JSON;
static long events = 200, gap_us;
static uint64_t requests, open_count, gone;
static int epoll, timer;

#define WRITE_FRAME(target, ...) (target.length = (size_t)asprintf(&target.bytes, __VA_ARGS__))

static char *chunk(const char *text) {
  char *bytes;
  if (asprintf(&bytes, "%zx\r\n%s\r\n", strlen(text), text) < 0) die("asprintf");
  return bytes;
}

static char *sse_chunk(const char *json) {
  char *chunk;
  if (asprintf(&chunk, "%zx\r\ndata: %s\n\n\r\n", strlen(json) + 8, json) < 0) die("asprintf");
  return chunk;
}

static void prepare_ollama(const char *head, const char *words) {
  char *json;
  if (asprintf(&json, LINE_HEAD "\"message\":{\"role\":\"assistant\",\"content\":\"%s\"}," LINE_END, words) < 0) die("asprintf");
  const char *list = "{\"models\":[{\"name\":\"bench-model\",\"model\":\"bench-model\",\"modified_at\":\"2026-01-01T00:00:00Z\",\"size\":1000,\"digest\":\"bench\"}]}";
  const char *about = "{\"capabilities\":[\"completion\",\"tools\"],\"details\":{},\"model_info\":{\"general.architecture\":\"llama\",\"llama.context_length\":32768}}";
  WRITE_FRAME(ollama.reply, head, strlen(json), json);
  WRITE_FRAME(tags, head, strlen(list), list);
  WRITE_FRAME(show, head, strlen(about), about);
  WRITE_FRAME(ollama.stream_head, STREAM_HEAD, "application/x-ndjson");
  WRITE_FRAME(ollama.text, "%s", chunk(LINE_HEAD "\"message\":{\"role\":\"assistant\",\"content\":\" work\"},\"done\":false}\n"));
  WRITE_FRAME(ollama.finish, "%s", chunk(LINE_HEAD "\"message\":{\"role\":\"assistant\",\"content\":\"\"}," LINE_END "\n"));
  WRITE_FRAME(ollama.done, "0\r\n\r\n");
}

static void prepare(void) {
  static char words[700];
  while (strlen(words) < 660) strcat(words, "All work and no play. ");
  char *json, *list = "{\"object\":\"list\",\"data\":[{\"id\":\"bench-model\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"bench\"}]}";
  if (asprintf(&json, "{\"id\":\"chatcmpl-bench0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench-model\","
               "\"system_fingerprint\":\"fp_bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\",\"refusal\":null},"
               "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":" USAGE "}", words) < 0) die("asprintf");
  const char *head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s";
  WRITE_FRAME(openai.reply, head, strlen(json), json);
  WRITE_FRAME(models, head, strlen(list), list);
  WRITE_FRAME(empty, head, (size_t)2, "{}");
  WRITE_FRAME(missing, "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}");
  WRITE_FRAME(openai.stream_head, STREAM_HEAD "%s", "text/event-stream; charset=utf-8",
              sse_chunk(CHUNK_HEAD CHOICE("{\"role\":\"assistant\",\"content\":\"\"}", "null")));
  WRITE_FRAME(openai.text, "%s", sse_chunk(CHUNK_HEAD CHOICE("{\"content\":\" work\"}", "null")));
  WRITE_FRAME(openai.finish, "%s", sse_chunk(CHUNK_HEAD CHOICE("{}", "\"stop\"")));
  WRITE_FRAME(openai.usage, "%s", sse_chunk(CHUNK_HEAD "\"choices\":[],\"usage\":" USAGE "}"));
  WRITE_FRAME(openai.done, "%s0\r\n\r\n", sse_chunk("[DONE]"));
  prepare_ollama(head, words);
}

static void watch(struct connection *connection, bool for_room) {
  struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | (for_room ? EPOLLOUT : 0), .data.fd = connection->fd };
  connection->writable = !for_room;
  epoll_ctl(epoll, EPOLL_CTL_MOD, connection->fd, &event);
}

/* One tick of the timer is due for every paced stream in each gap, so that their events are spread evenly. */
static void set_pace(void) {
  uint64_t ns = stream_count == 0 || gap_us == 0 ? 0 : (uint64_t)gap_us * 1000 / stream_count;
  struct timespec tick = { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };
  timerfd_settime(timer, 0, &(struct itimerspec){ .it_interval = tick, .it_value = tick }, NULL);
}

static void end_answer(struct connection *connection) {
  if (connection->open) open_count--;
  if (connection->paced) {
    streams[connection->slot] = streams[--stream_count];
    streams[connection->slot]->slot = connection->slot;
    set_pace();
  }
  connection->open = connection->streaming = connection->paced = false;
}

static void drop(struct connection *connection) {
  if (connection->open) gone++;
  end_answer(connection);
  close(connection->fd);
  connections[connection->fd] = NULL;
  free(connection);
}

/* Writes what is pending. Returns false when the socket has no room (or is gone: reading will tell). */
static bool flush_out(struct connection *connection) {
  while (connection->out_left > 0) {
    ssize_t sent = send(connection->fd, connection->out, connection->out_left, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EAGAIN && connection->writable) watch(connection, true);
      return false;
    }
    connection->out += sent;
    connection->out_left -= (size_t)sent;
  }
  if (!connection->writable) watch(connection, false);
  return true;
}

static bool send_frame(struct connection *connection, const struct bytes *frame) {
  connection->out = frame->bytes;
  connection->out_left = frame->length;
  return flush_out(connection);
}

/* Sends the stream's next event. Returns false when there is no room, or none is left. */
static bool send_event(struct connection *connection) {
  const struct voice *voice = connection->voice;
  long step = connection->step++;
  if (step == 0) return send_frame(connection, &voice->stream_head);
  if (connection->events == 0 || step <= connection->events) return send_frame(connection, &voice->text);
  if (step == connection->events + 1) return send_frame(connection, &voice->finish);
  if (step == connection->events + 2) return send_frame(connection, &voice->usage);
  end_answer(connection);
  send_frame(connection, &voice->done);
  return false;
}

static void pump(struct connection *connection) {
  while (connection->streaming && connection->out_left == 0 && send_event(connection)) continue;
}

static bool asks(const struct connection *connection, const char *line) {
  return strncmp(connection->in.head, line, strlen(line)) == 0;
}

/* What a server tells of itself. */
static const struct bytes *facts(const struct connection *connection) {
  if (asks(connection, "GET /v1/models ")) return &models;
  if (asks(connection, "GET /api/tags ")) return &tags;
  if (asks(connection, "POST /api/show ")) return &show;
  if (asks(connection, "GET /api/ps ") || asks(connection, "GET /api/version ")) return &empty;
  return asks(connection, "POST ") ? NULL : &missing;
}

static void answer(struct connection *connection) {
  const struct bytes *told = facts(connection);
  if (told != NULL) {
    send_frame(connection, told);
    return;
  }
  connection->voice = asks(connection, "POST /api/") ? &ollama : &openai;
  requests++;
  if (kind == JSON) {
    send_frame(connection, &connection->voice->reply);
    return;
  }
  open_count++;
  connection->open = true;
  if (kind == SILENT) return;
  connection->streaming = true;
  connection->step = 0;
  connection->events = events;
  if (gap_us == 0) {
    pump(connection);
    return;
  }
  connection->paced = true;
  connection->slot = stream_count;
  streams[stream_count++] = connection;
  set_pace();
  send_event(connection);
}

static void read_requests(struct connection *connection) {
  static char buffer[1 << 16];
  ssize_t count = recv(connection->fd, buffer, sizeof buffer, 0);
  if (count < 0 && errno == EAGAIN) return;
  for (ssize_t at = 0; at < count;) {
    ssize_t taken = message_read(&connection->in, buffer + at, (size_t)(count - at), NULL, NULL);
    if (taken < 0) {
      count = -1;
      break;
    }
    at += taken;
    if (connection->in.phase != WHOLE) continue;
    answer(connection);
    message_reset(&connection->in);
  }
  if (count <= 0) drop(connection);
}

static void take_connections(int listener) {
  for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
    if (fd >= CONNECTION_LIMIT) die("too many connections");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
    struct connection *connection = calloc(1, sizeof *connection);
    connection->fd = fd;
    connection->writable = true;
    connections[fd] = connection;
    struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP, .data.fd = fd };
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  }
}

static void send_paced_events(void) {
  uint64_t due = 0;
  if (read(timer, &due, sizeof due) < 0) return;
  for (; due > 0 && stream_count > 0; due--) {
    struct connection *connection = streams[stream_cursor++ % stream_count];
    if (connection->out_left == 0) send_event(connection);
  }
}

static void obey(void) {
  char line[128];
  ssize_t count = read(STDIN_FILENO, line, sizeof line - 1);
  if (count <= 0) exit(0);
  line[count] = 0;
  if (strncmp(line, "stats", 5) == 0) {
    printf("{\"requests\":%lu,\"open\":%lu,\"gone\":%lu}\n", (unsigned long)requests, (unsigned long)open_count, (unsigned long)gone);
    return;
  }
  if (strncmp(line, "json", 4) == 0) kind = JSON;
  else if (strncmp(line, "silent", 6) == 0) kind = SILENT;
  else if (sscanf(line, "sse %ld %ld", &events, &gap_us) == 2) kind = SSE;
  else if (strncmp(line, "reset", 5) == 0) {
    for (int fd = 0; fd < CONNECTION_LIMIT; fd++) if (connections[fd] != NULL) drop(connections[fd]);
    requests = gone = 0;
  }
  printf("ok\n");
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  prepare();
  epoll = epoll_create1(0);
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  int listener = listen_anywhere();
  int always[] = { STDIN_FILENO, timer, listener };
  for (int i = 0; i < 3; i++) epoll_ctl(epoll, EPOLL_CTL_ADD, always[i], &(struct epoll_event){ .events = EPOLLIN, .data.fd = always[i] });
  for (struct epoll_event ready[256];;) {
    int count = epoll_wait(epoll, ready, 256, -1);
    for (int i = 0; i < count; i++) {
      int fd = ready[i].data.fd;
      if (fd == STDIN_FILENO) obey();
      else if (fd == timer) send_paced_events();
      else if (fd == listener) take_connections(listener);
      else {
        if (connections[fd] != NULL && ready[i].events & EPOLLOUT && flush_out(connections[fd]) && !connections[fd]->paced) pump(connections[fd]);
        if (connections[fd] != NULL && ready[i].events & ~EPOLLOUT) read_requests(connections[fd]);
      }
    }
  }
}
