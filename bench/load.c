/*
 * The clients of the bench: keep-alive connections that send one request over and over, and count what comes back.
 *
 *   load PORT REQUEST_FILE [name=value …]
 *     connections=N   (1)
 *     rate=R          requests per second over all connections; 0 (default): each connection asks again at once
 *     warmup=N        answers (or events) before counting starts, for at most 10 s
 *     seconds=S       how long to count (1)
 *     answers=N       count until N answers were asked for and given, if that takes less
 *     events=1        warmup and `units` count SSE events instead of answers
 *     each=N          an answer with another number of SSE events has failed
 *     lines=1         events are lines that begin with "{" (Ollama's streams), and not with "data:"
 *     failures=N      give up when more requests fail (100)
 *     cpu=PID,PID…    processes whose CPU time is taken over the counting window, from /proc/PID/task/…/schedstat
 *
 * Prints "streaming" once every connection has seen the first byte of a body, and one line of JSON at the end; SIGTERM
 * brings the end at once. The first failures are told on stderr.
 * Exits 3 when too many requests fail, saying on stderr what came back.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

#include "wire.h"

#define WARMUP_NS 10000000000u
#define FAILURES_TOLD 3

struct connection {
  int fd;
  bool busy;
  bool answered;      /* the first byte of some body was seen */
  bool receiving;     /* some bytes of the present answer were seen */
  int line_at;        /* place in the line of an SSE stream, up to 5; -1: past its first five bytes */
  long events;        /* of the present answer */
  size_t unsent;      /* bytes of the request still to be written */
  uint64_t started;
  struct message in;
};

static struct { const char *cpu; long connections, rate, warmup, events, each, lines, answers, failures; double seconds; } options = { .connections = 1, .seconds = 1, .failures = 100 };
static struct { uint64_t cpu_ns, wait_ns; } cpu_before, cpu_after;
static struct connection *connections;
static struct sockaddr_in server = { .sin_family = AF_INET };
static char *request;
static size_t request_length;
static uint64_t answers, events, failures, answered_connections, window_start;
static uint32_t *latencies; /* ns / 100 */
static size_t latency_count, latency_room;
static int epoll;
static volatile sig_atomic_t told_to_end;

static void end_soon(int signal) {
  (void)signal;
  told_to_end = 1;
}

static void read_request(const char *path) {
  struct stat facts;
  FILE *file = fopen(path, "rb");
  if (file == NULL || fstat(fileno(file), &facts) < 0) die(path);
  request = malloc((size_t)facts.st_size);
  request_length = fread(request, 1, (size_t)facts.st_size, file);
  fclose(file);
}

/* Adds up the threads' time on the CPU, and their time waiting for it. */
static void add_cpu(const char *pid, uint64_t *cpu_ns, uint64_t *wait_ns) {
  char path[300];
  snprintf(path, sizeof path, "/proc/%s/task", pid);
  DIR *tasks = opendir(path);
  if (tasks == NULL) die(path);
  for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
    unsigned long run, wait;
    snprintf(path, sizeof path, "/proc/%s/task/%s/schedstat", pid, task->d_name);
    FILE *file = fopen(path, "r");
    if (file == NULL) continue;
    if (task->d_name[0] != '.' && fscanf(file, "%lu %lu", &run, &wait) == 2) *cpu_ns += run, *wait_ns += wait;
    fclose(file);
  }
  closedir(tasks);
}

static void read_cpu(uint64_t *cpu_ns, uint64_t *wait_ns) {
  if (options.cpu == NULL) return;
  char *pids = strdup(options.cpu);
  for (char *pid = strtok(pids, ","); pid != NULL; pid = strtok(NULL, ",")) add_cpu(pid, cpu_ns, wait_ns);
  free(pids);
}

static void fail(struct connection *connection, const char *why) {
  const char *head = connection->in.head_length > 0 ? connection->in.head : "";
  if (++failures > (uint64_t)options.failures) {
    fprintf(stderr, "too many failures; the last: %s\n%.600s\n", why, head);
    exit(3);
  }
  if (failures <= FAILURES_TOLD) fprintf(stderr, "a request failed: %s\n%.600s\n", why, head);
}

static void watch(struct connection *connection, int operation, uint32_t mask) {
  struct epoll_event event = { .events = mask, .data.ptr = connection };
  epoll_ctl(epoll, operation, connection->fd, &event);
}

static void write_request(struct connection *connection) {
  bool waited = connection->unsent < request_length;
  while (connection->unsent > 0) {
    ssize_t sent = send(connection->fd, request + request_length - connection->unsent, connection->unsent, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EAGAIN) watch(connection, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
      return;
    }
    connection->unsent -= (size_t)sent;
  }
  if (waited) watch(connection, EPOLL_CTL_MOD, EPOLLIN);
}

static void ask(struct connection *connection) {
  connection->busy = true;
  connection->receiving = false;
  connection->line_at = 0;
  connection->events = 0;
  connection->unsent = request_length;
  connection->started = now_ns();
  message_reset(&connection->in);
  write_request(connection);
}

static void open_connection(struct connection *connection) {
  connection->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(connection->fd, (struct sockaddr *)&server, sizeof server) < 0) die("connect");
  fcntl(connection->fd, F_SETFL, O_NONBLOCK);
  setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
  connection->busy = false;
  watch(connection, EPOLL_CTL_ADD, EPOLLIN);
}

static void add_latency(uint64_t ns) {
  if (latency_count == latency_room) latencies = realloc(latencies, (latency_room = latency_room * 2 + 4096) * sizeof *latencies);
  latencies[latency_count++] = (uint32_t)(ns / 100);
}

/* Counts the lines of a body that begin an event. */
static void count_events(void *owner, const char *bytes, size_t count) {
  struct connection *connection = owner;
  const char *end = bytes + count, *mark = options.lines ? "{" : "data:";
  if (!connection->answered) {
    connection->answered = true;
    if (++answered_connections == (uint64_t)options.connections) printf("streaming\n");
  }
  while (bytes < end) {
    if (connection->line_at < 0) {
      bytes = memchr(bytes, '\n', (size_t)(end - bytes));
      if (bytes == NULL) return;
      connection->line_at = 0;
      bytes++;
    } else if (*bytes == mark[connection->line_at]) {
      bytes++;
      if (mark[++connection->line_at] != 0) continue;
      events++;
      connection->events++;
      connection->line_at = -1;
    } else {
      connection->line_at = -1;
    }
  }
}

static void take_answer(struct connection *connection) {
  if (strncmp(connection->in.head, "HTTP/1.1 200", 12) != 0) fail(connection, "another status than 200");
  else if (options.each > 0 && connection->events != options.each) fail(connection, "the stream ended too soon");
  else answers++;
  if (connection->started >= window_start && window_start > 0) add_latency(now_ns() - connection->started);
  connection->busy = false;
  if (options.rate == 0) ask(connection);
}

static void read_answers(struct connection *connection) {
  static char buffer[1 << 17];
  ssize_t count = recv(connection->fd, buffer, sizeof buffer, 0);
  if (count < 0 && errno == EAGAIN) return;
  if (count <= 0) {
    if (connection->busy) fail(connection, connection->receiving ? "the answer was cut" : "closed without an answer");
    close(connection->fd);
    open_connection(connection);
    if (options.rate == 0) ask(connection);
    return;
  }
  connection->receiving = true;
  for (ssize_t at = 0; at < count;) {
    ssize_t taken = connection->busy ? message_read(&connection->in, buffer + at, (size_t)(count - at), count_events, connection) : -1;
    if (taken < 0) {
      fprintf(stderr, "not HTTP: %.200s\n", buffer);
      exit(3);
    }
    at += taken;
    if (connection->in.phase == WHOLE) take_answer(connection);
  }
}

/* At a given rate: asks on idle connections in turn, as many times as are due. */
static void ask_when_due(uint64_t start) {
  static uint64_t asked, turn;
  uint64_t due = (now_ns() - start) * (uint64_t)options.rate / 1000000000u;
  for (long tried = 0; asked < due && tried < options.connections; tried++) {
    struct connection *connection = &connections[turn++ % (uint64_t)options.connections];
    if (connection->busy) continue;
    ask(connection);
    asked++;
  }
}

static int compare_latencies(const void *a, const void *b) {
  uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
  return (left > right) - (left < right);
}

static double percentile_us(double share) {
  return latency_count == 0 ? 0 : latencies[(size_t)((double)(latency_count - 1) * share)] / 10.0;
}

static uint64_t units(void) {
  return options.events ? events : answers;
}

static bool at_end(uint64_t now) {
  if (told_to_end) return true;
  if (window_start == 0) return false;
  if (options.answers > 0 && latency_count >= (size_t)options.answers) return true;
  return (double)(now - window_start) >= options.seconds * 1e9;
}

static void run(void) {
  uint64_t start = now_ns(), units_before = 0, now = start;
  while (!at_end(now)) {
    struct epoll_event ready[256];
    int count = epoll_wait(epoll, ready, 256, options.rate > 0 ? 1 : 100);
    for (int i = 0; i < count; i++) {
      struct connection *connection = ready[i].data.ptr;
      if (ready[i].events & EPOLLOUT) write_request(connection);
      if (ready[i].events & ~EPOLLOUT) read_answers(connection);
    }
    if (options.rate > 0) ask_when_due(start);
    now = now_ns();
    if (window_start > 0 || (units() < (uint64_t)options.warmup && now - start < WARMUP_NS)) continue;
    read_cpu(&cpu_before.cpu_ns, &cpu_before.wait_ns);
    units_before = units();
    window_start = now = now_ns();
  }
  read_cpu(&cpu_after.cpu_ns, &cpu_after.wait_ns);
  if (latency_count > 0) qsort(latencies, latency_count, sizeof *latencies, compare_latencies);
  printf("{\"warmed\":%lu,\"units\":%lu,\"failures\":%lu,\"seconds\":%.6f,\"cpu_us\":%.1f,\"wait_us\":%.1f,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f}\n",
         (unsigned long)units_before, (unsigned long)(units() - units_before), (unsigned long)failures, (double)(now - window_start) / 1e9,
         (double)(cpu_after.cpu_ns - cpu_before.cpu_ns) / 1e3, (double)(cpu_after.wait_ns - cpu_before.wait_ns) / 1e3,
         percentile_us(0.5), percentile_us(0.9), percentile_us(0.99));
}

static void read_options(int count, char **arguments) {
  for (int i = 3; i < count; i++) {
    char *value = strchr(arguments[i], '=');
    size_t length = value == NULL ? 0 : (size_t)(value - arguments[i]);
    if (length > 0 && strncmp(arguments[i], "connections", length) == 0) options.connections = atol(value + 1);
    else if (length > 0 && strncmp(arguments[i], "rate", length) == 0) options.rate = atol(value + 1);
    else if (length > 0 && strncmp(arguments[i], "warmup", length) == 0) options.warmup = atol(value + 1);
    else if (length > 0 && strncmp(arguments[i], "seconds", length) == 0) options.seconds = atof(value + 1);
    else if (length > 0 && strncmp(arguments[i], "events", length) == 0) options.events = atol(value + 1);
    else if (length > 0 && strncmp(arguments[i], "each", length) == 0) options.each = atol(value + 1);
    else if (length > 0 && strncmp(arguments[i], "lines", length) == 0) options.lines = atol(value + 1);
    else if (length > 0 && strncmp(arguments[i], "answers", length) == 0) options.answers = atol(value + 1);
    else if (length > 0 && strncmp(arguments[i], "failures", length) == 0) options.failures = atol(value + 1);
    else if (length > 0 && strncmp(arguments[i], "cpu", length) == 0) options.cpu = value + 1;
    else {
      fprintf(stderr, "unknown option %s\n", arguments[i]);
      exit(2);
    }
  }
}

int main(int count, char **arguments) {
  if (count < 3) return 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGTERM, end_soon);
  setvbuf(stdout, NULL, _IOLBF, 0);
  server.sin_port = htons((uint16_t)atoi(arguments[1]));
  server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  read_request(arguments[2]);
  read_options(count, arguments);
  epoll = epoll_create1(0);
  connections = calloc((size_t)options.connections, sizeof *connections);
  for (long i = 0; i < options.connections; i++) {
    open_connection(&connections[i]);
    if (options.rate == 0) ask(&connections[i]);
    /* A listener's backlog is short (511 in nginx and Node): a full one costs a second for each connection beyond. */
    if (options.connections > 200) usleep(500);
  }
  run();
  return 0;
}
