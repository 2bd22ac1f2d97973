/* What the programs of the bench share: reading one HTTP/1.1 message, and small chores. Linux only. */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

#define HEAD_LIMIT 8192
#define CONNECTION_LIMIT 65536

enum phase { HEAD, BODY, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER, WHOLE };

/* One message being read: its head is kept, its body is handed on as it comes. */
struct message {
  enum phase phase;
  size_t head_length;
  size_t line_length; /* of the chunk size or trailer line being read */
  uint64_t left;      /* bytes still to come of the body or chunk */
  char head[HEAD_LIMIT + 1];
};

typedef void body_reader(void *owner, const char *bytes, size_t count);

static inline void message_reset(struct message *message) {
  message->phase = HEAD;
  message->head_length = 0;
  message->line_length = 0;
  message->left = 0;
}

static inline void die(const char *what) {
  perror(what);
  exit(2);
}

static inline uint64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* A listener on a free port of the loopback interface, which it prints. */
static inline int listen_anywhere(void) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
  socklen_t length = sizeof address;
  if (bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, 4096) < 0) die("listen");
  getsockname(listener, (struct sockaddr *)&address, &length);
  printf("%d\n", ntohs(address.sin_port));
  return listener;
}

/* The value of a header, or NULL. `name` is lower case with its colon. */
static inline const char *header_of(const struct message *message, const char *name) {
  size_t length = strlen(name);
  for (const char *line = strstr(message->head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
    line += 2;
    if (strncasecmp(line, name, length) == 0) return line + length + strspn(line + length, " ");
  }
  return NULL;
}

static inline void begin_body(struct message *message) {
  const char *encoding = header_of(message, "transfer-encoding:");
  const char *length = header_of(message, "content-length:");
  message->line_length = 0;
  if (encoding != NULL && strncasecmp(encoding, "chunked", 7) == 0) {
    message->phase = CHUNK_SIZE;
    return;
  }
  message->left = length == NULL ? 0 : strtoull(length, NULL, 10);
  message->phase = message->left == 0 ? WHOLE : BODY;
}

/* Takes head bytes until the empty line. Returns how many, or -1 when the head is too long. */
static inline ssize_t read_head(struct message *message, const char *bytes, size_t count) {
  for (size_t at = 0; at < count; at++) {
    if (message->head_length == HEAD_LIMIT) return -1;
    message->head[message->head_length++] = bytes[at];
    if (bytes[at] != '\n' || message->head_length < 4) continue;
    if (memcmp(message->head + message->head_length - 4, "\r\n\r\n", 4) != 0) continue;
    message->head[message->head_length] = 0;
    begin_body(message);
    return (ssize_t)at + 1;
  }
  return (ssize_t)count;
}

/* One byte of a line between chunks: "1f4\r\n", the "\r\n" after a chunk, or a trailer line. Returns false when malformed. */
static inline bool read_framing(struct message *message, char byte) {
  if (byte == '\r') return true;
  if (byte != '\n') {
    message->line_length++;
    if (message->phase == TRAILER) return true;
    if (message->phase == CHUNK_END) return false;
    const char *digits = "0123456789abcdef";
    const char *digit = strchr(digits, byte | 0x20);
    if (digit == NULL || message->line_length > 15) return false;
    message->left = message->left * 16 + (uint64_t)(digit - digits);
    return true;
  }
  bool empty = message->line_length == 0;
  message->line_length = 0;
  if (message->phase == CHUNK_END) message->phase = CHUNK_SIZE;
  else if (message->phase == TRAILER) message->phase = empty ? WHOLE : TRAILER;
  else if (empty) return false;
  else message->phase = message->left == 0 ? TRAILER : CHUNK;
  return true;
}

/* Reads on, at most to the end of the message. Returns the bytes taken, or -1 for what is no HTTP. */
static inline ssize_t message_read(struct message *message, const char *bytes, size_t count, body_reader *on_body, void *owner) {
  size_t at = 0;
  while (at < count && message->phase != WHOLE) {
    if (message->phase == HEAD) {
      ssize_t taken = read_head(message, bytes + at, count - at);
      if (taken < 0) return -1;
      at += (size_t)taken;
    } else if (message->phase == BODY || message->phase == CHUNK) {
      size_t piece = count - at < message->left ? count - at : (size_t)message->left;
      if (on_body != NULL) on_body(owner, bytes + at, piece);
      at += piece;
      message->left -= piece;
      if (message->left == 0) message->phase = message->phase == BODY ? WHOLE : CHUNK_END;
    } else if (!read_framing(message, bytes[at++])) {
      return -1;
    }
  }
  return (ssize_t)at;
}

#endif
