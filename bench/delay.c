/*
 * A line with a delay: takes connections and carries each to another port, every byte a given time after it came, in
 * order, both ways. Up to 64 MB are under way in each direction, so that the delay does not limit what passes: only
 * what the two ends allow themselves to have under way does.
 *
 *   delay PORT DELAY_US
 *
 * Prints its own port; ends with stdin. Each end's TCP talks to this program, so the delay is not seen by TCP's own
 * windows: what is measured is the windows of the protocols above it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <signal.h>
#include <unistd.h>

#include "wire.h"

#define LINE_LIMIT (64u << 20)

/* Bytes that came at one time; none of them: the end of the stream. */
struct piece {
  struct piece *next;
  uint64_t due;
  size_t length, written;
  char bytes[];
};

struct end;

/* One direction. */
struct line {
  struct end *from, *to;
  struct piece *first, *last;
  size_t held;
  bool ended; /* nothing more will come */
};

struct end {
  int fd;
  uint32_t watched;
  bool wants_room;
  struct line *in; /* what is read from here */
  struct pair *pair;
};

struct pair {
  struct end ends[2];
  struct line lines[2];
  struct pair *next;
  bool broken;
};

static struct pair *pairs;
static uint64_t delay_ns;
static struct sockaddr_in target = { .sin_family = AF_INET };
static int epoll, timer, listener;

static void watch(struct end *end) {
  bool room = end->in->held < LINE_LIMIT && !end->in->ended;
  uint32_t wanted = (room ? EPOLLIN : 0) | (end->wants_room ? EPOLLOUT : 0);
  if (wanted == end->watched) return;
  end->watched = wanted;
  epoll_ctl(epoll, EPOLL_CTL_MOD, end->fd, &(struct epoll_event){ .events = wanted, .data.ptr = end });
}

static void append(struct line *line, const char *bytes, size_t count) {
  struct piece *piece = malloc(sizeof *piece + count);
  *piece = (struct piece){ .due = now_ns() + delay_ns, .length = count };
  memcpy(piece->bytes, bytes, count);
  if (line->last == NULL) line->first = piece;
  else line->last->next = piece;
  line->last = piece;
  line->held += count;
}

static void read_end(struct end *end) {
  static char buffer[1 << 18];
  while (!end->in->ended && end->in->held < LINE_LIMIT) {
    ssize_t count = recv(end->fd, buffer, sizeof buffer, 0);
    if (count < 0 && errno == EAGAIN) break;
    if (count < 0) {
      end->pair->broken = true;
      return;
    }
    if (count == 0) end->in->ended = true;
    append(end->in, buffer, (size_t)count);
  }
  watch(end);
}

/* Writes what is due. */
static void deliver(struct line *line, uint64_t now) {
  struct end *to = line->to;
  to->wants_room = false;
  while (line->first != NULL && line->first->due <= now && !to->wants_room) {
    struct piece *piece = line->first;
    if (piece->length == 0) shutdown(to->fd, SHUT_WR);
    while (piece->written < piece->length) {
      ssize_t sent = send(to->fd, piece->bytes + piece->written, piece->length - piece->written, MSG_NOSIGNAL);
      if (sent < 0 && errno == EAGAIN) {
        to->wants_room = true;
        break;
      }
      if (sent < 0) {
        to->pair->broken = true;
        return;
      }
      piece->written += (size_t)sent;
      line->held -= (size_t)sent;
    }
    if (to->wants_room) break;
    line->first = piece->next;
    if (line->first == NULL) line->last = NULL;
    free(piece);
  }
  watch(to);
  watch(line->from);
}

static bool over(const struct pair *pair) {
  if (pair->broken) return true;
  return pair->lines[0].ended && pair->lines[1].ended && pair->lines[0].first == NULL && pair->lines[1].first == NULL;
}

static void remove_pair(struct pair *pair) {
  for (int i = 0; i < 2; i++) {
    close(pair->ends[i].fd);
    for (struct piece *next, *piece = pair->lines[i].first; piece != NULL; piece = next) next = piece->next, free(piece);
  }
  free(pair);
}

/* Delivers everything that is due, forgets what is over, and sets the timer to what is due next. */
static void turn(void) {
  uint64_t now = now_ns(), next = 0;
  for (struct pair **place = &pairs; *place != NULL;) {
    struct pair *pair = *place;
    for (int i = 0; i < 2 && !pair->broken; i++) {
      deliver(&pair->lines[i], now);
      struct piece *first = pair->lines[i].first;
      if (first != NULL && first->due > now && (next == 0 || first->due < next)) next = first->due;
    }
    if (over(pair)) {
      *place = pair->next;
      remove_pair(pair);
    } else {
      place = &pair->next;
    }
  }
  struct itimerspec at = { .it_value = { .tv_sec = (time_t)(next / 1000000000), .tv_nsec = (long)(next % 1000000000) } };
  timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static void add_end(struct pair *pair, int which, int fd) {
  struct end *end = &pair->ends[which];
  *end = (struct end){ .fd = fd, .watched = EPOLLIN, .in = &pair->lines[which], .pair = pair };
  pair->lines[which].from = end;
  pair->lines[1 - which].to = end;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){ .events = EPOLLIN, .data.ptr = end });
}

static void take_connections(void) {
  for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
    int other = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(other, (struct sockaddr *)&target, sizeof target) < 0 && errno != EINPROGRESS) die("connect");
    struct pair *pair = calloc(1, sizeof *pair);
    add_end(pair, 0, fd);
    add_end(pair, 1, other);
    pair->next = pairs;
    pairs = pair;
  }
}

int main(int count, char **arguments) {
  if (count < 3) return 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setvbuf(stdout, NULL, _IOLBF, 0);
  target.sin_port = htons((uint16_t)atoi(arguments[1]));
  target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  delay_ns = strtoull(arguments[2], NULL, 10) * 1000;
  epoll = epoll_create1(0);
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  listener = listen_anywhere();
  int always[] = { STDIN_FILENO, timer, listener };
  for (int i = 0; i < 3; i++) epoll_ctl(epoll, EPOLL_CTL_ADD, always[i], &(struct epoll_event){ .events = EPOLLIN, .data.ptr = &always[i] });
  for (struct epoll_event ready[64];;) {
    int ready_count = epoll_wait(epoll, ready, 64, -1);
    for (int i = 0; i < ready_count; i++) {
      uint64_t due;
      if (ready[i].data.ptr == &always[0]) return 0;
      else if (ready[i].data.ptr == &always[1]) (void)!read(timer, &due, sizeof due);
      else if (ready[i].data.ptr == &always[2]) take_connections();
      else if (ready[i].events & ~EPOLLOUT) read_end(ready[i].data.ptr);
    }
    turn();
  }
}
