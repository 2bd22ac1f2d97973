/*
 * The upstream of the bench: an OpenAI-compatible server that costs next to nothing.
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
  const char *out;  /* what is being written; static bytes */
  size_t out_left;
  struct message in;
};

static struct { char *bytes; size_t length; } models, reply, missing, stream_head, text, finish, usage, done;
static struct connection *connections[CONNECTION_LIMIT], *streams[CONNECTION_LIMIT];
static size_t stream_count, stream_cursor;
static enum kind kind = JSON;
static long events = 200, gap_us;
static uint64_t requests, open_count, gone;
static int epoll, timer;

#define WRITE_FRAME(target, ...) (target.length = (size_t)asprintf(&target.bytes, __VA_ARGS__))

static char *sse_chunk(const char *json) {
  char *chunk;
  if (asprintf(&chunk, "%zx\r\ndata: %s\n\n\r\n", strlen(json) + 8, json) < 0) die("asprintf");
  return chunk;
}

static void prepare(void) {
  static char words[700];
  while (strlen(words) < 660) strcat(words, "All work and no play. ");
  char *json, *list = "{\"object\":\"list\",\"data\":[{\"id\":\"bench-model\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"bench\"}]}";
  if (asprintf(&json, "{\"id\":\"chatcmpl-bench0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench-model\","
               "\"system_fingerprint\":\"fp_bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\",\"refusal\":null},"
               "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":" USAGE "}", words) < 0) die("asprintf");
  const char *head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s";
  WRITE_FRAME(reply, head, strlen(json), json);
  WRITE_FRAME(models, head, strlen(list), list);
  WRITE_FRAME(missing, "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}");
  WRITE_FRAME(stream_head, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n%s",
              sse_chunk(CHUNK_HEAD CHOICE("{\"role\":\"assistant\",\"content\":\"\"}", "null")));
  WRITE_FRAME(text, "%s", sse_chunk(CHUNK_HEAD CHOICE("{\"content\":\" work\"}", "null")));
  WRITE_FRAME(finish, "%s", sse_chunk(CHUNK_HEAD CHOICE("{}", "\"stop\"")));
  WRITE_FRAME(usage, "%s", sse_chunk(CHUNK_HEAD "\"choices\":[],\"usage\":" USAGE "}"));
  WRITE_FRAME(done, "%s0\r\n\r\n", sse_chunk("[DONE]"));
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

static bool send_frame(struct connection *connection, const char *bytes, size_t length) {
  connection->out = bytes;
  connection->out_left = length;
  return flush_out(connection);
}

/* Sends the stream's next event. Returns false when there is no room, or none is left. */
static bool send_event(struct connection *connection) {
  long step = connection->step++;
  if (step == 0) return send_frame(connection, stream_head.bytes, stream_head.length);
  if (connection->events == 0 || step <= connection->events) return send_frame(connection, text.bytes, text.length);
  if (step == connection->events + 1) return send_frame(connection, finish.bytes, finish.length);
  if (step == connection->events + 2) return send_frame(connection, usage.bytes, usage.length);
  end_answer(connection);
  send_frame(connection, done.bytes, done.length);
  return false;
}

static void pump(struct connection *connection) {
  while (connection->streaming && connection->out_left == 0 && send_event(connection)) continue;
}

static void answer(struct connection *connection) {
  if (strncmp(connection->in.head, "POST ", 5) != 0) {
    bool known = strncmp(connection->in.head, "GET /v1/models ", 15) == 0;
    send_frame(connection, known ? models.bytes : missing.bytes, known ? models.length : missing.length);
    return;
  }
  requests++;
  if (kind == JSON) {
    send_frame(connection, reply.bytes, reply.length);
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
