/* What a C program expects of files, through wasi-libc. Exits with 0, or prints the line that is not so. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define EPOCH 1577836800
#define CHECK(what) ((what) ? (void)0 : fail(__LINE__, #what))
#define REFUSED(call, code) CHECK((call) == -1 && errno == (code))

static void fail(int line, const char *what) {
  printf("line %d: %s (errno %d)\n", line, what, errno);
  exit(1);
}

static void sizes_and_positions(void) {
  struct stat s;
  char buffer[16];
  int fd = open("f", O_RDWR | O_CREAT | O_EXCL, 0644);
  CHECK(fd > 2 && write(fd, "0123456789", 10) == 10);
  CHECK(ftruncate(fd, 5) == 0 && fstat(fd, &s) == 0 && s.st_size == 5 && S_ISREG(s.st_mode));
  CHECK(posix_fallocate(fd, 0, 20) == 0 && fstat(fd, &s) == 0 && s.st_size == 20);
  CHECK(posix_fallocate(fd, 0, 3) == 0 && fstat(fd, &s) == 0 && s.st_size == 20);
  CHECK(lseek(fd, -3, SEEK_END) == 17);
  REFUSED(lseek(fd, -30, SEEK_CUR), EINVAL);
  CHECK(lseek(fd, 100, SEEK_SET) == 100 && read(fd, buffer, 1) == 0);
  int appending = open("f", O_WRONLY | O_APPEND);
  CHECK(write(appending, "zz", 2) == 2 && lseek(appending, 0, SEEK_CUR) == 22);
  CHECK((fcntl(appending, F_GETFL) & O_APPEND) && fsync(appending) == 0 && fdatasync(appending) == 0);
  REFUSED(read(appending, buffer, 1), EBADF);
  int reading = open("f", O_RDONLY);
  CHECK(pread(reading, buffer, 2, 20) == 2 && buffer[0] == 'z');
  CHECK(read(reading, buffer, 1) == 1 && buffer[0] == '0');
  REFUSED(write(reading, "x", 1), EBADF);
  CHECK(ftruncate(reading, 0) == -1);
  CHECK(pwrite(fd, "AB", 2, 1) == 2 && pread(reading, buffer, 4, 0) == 4 && memcmp(buffer, "0AB3", 4) == 0);
  CHECK(close(reading) == 0 && close(fd) == 0 && close(appending) == 0);
  REFUSED(close(fd), EBADF);
}

static void times(void) {
  struct stat s;
  int fd = open("f", O_RDWR);
  CHECK(fstat(fd, &s) == 0 && s.st_mtim.tv_sec == EPOCH && s.st_atim.tv_sec == EPOCH && s.st_ctim.tv_sec == EPOCH);
  struct timespec wanted[2] = {{100, 1}, {0, UTIME_OMIT}};
  CHECK(futimens(fd, wanted) == 0 && write(fd, "x", 1) == 1 && fstat(fd, &s) == 0);
  CHECK(s.st_atim.tv_sec == 100 && s.st_atim.tv_nsec == 1 && s.st_mtim.tv_sec == EPOCH);
  wanted[1] = (struct timespec){200, 0};
  CHECK(utimensat(AT_FDCWD, "f", wanted, 0) == 0 && stat("f", &s) == 0 && s.st_mtim.tv_sec == 200);
  close(fd);
}

static void names(void) {
  struct stat s, t;
  char buffer[16];
  CHECK(mkdir("d", 0777) == 0 && rename("f", "d/f") == 0 && stat("d/f", &s) == 0);
  REFUSED(mkdir("d", 0777), EEXIST);
  REFUSED(open("d/f", O_CREAT | O_EXCL | O_WRONLY, 0600), EEXIST);
  REFUSED(open("d", O_WRONLY), EISDIR);
  REFUSED(open("d", O_RDONLY | O_CREAT, 0600), EISDIR);
  REFUSED(open("d/f", O_RDONLY | O_DIRECTORY), ENOTDIR);
  REFUSED(open("d/f/", O_RDONLY), ENOTDIR);
  REFUSED(open("none/f", O_RDONLY), ENOENT);
  CHECK(link("d/f", "d/g") == 0 && stat("d/g", &t) == 0 && t.st_ino == s.st_ino && t.st_nlink == 2);
  CHECK(symlink("f", "d/l") == 0 && lstat("d/l", &t) == 0 && S_ISLNK(t.st_mode) && t.st_size == 1);
  CHECK(readlink("d/l", buffer, sizeof buffer) == 1 && buffer[0] == 'f');
  CHECK(stat("d/l", &t) == 0 && t.st_ino == s.st_ino);
  REFUSED(open("d/l", O_RDONLY | O_NOFOLLOW), ELOOP);
  REFUSED(unlink("d"), EISDIR);
  REFUSED(rmdir("d"), ENOTEMPTY);
  REFUSED(rmdir("d/f"), ENOTDIR);
  REFUSED(rename("d", "d/below"), EINVAL);
  CHECK(rename("d/g", "d/h") == 0);
  REFUSED(access("d/g", F_OK), ENOENT);
}

static void listing(void) {
  const char *expected[] = {".", "..", "f", "h", "l"};
  struct dirent *entry;
  DIR *d = opendir("d");
  CHECK(d != NULL);
  for (int i = 0; i < 5; i++) CHECK((entry = readdir(d)) && strcmp(entry->d_name, expected[i]) == 0);
  CHECK(readdir(d) == NULL);
  rewinddir(d);
  CHECK(readdir(d) && readdir(d));
  long third = telldir(d);
  CHECK(readdir(d) && readdir(d));
  seekdir(d, third);
  CHECK((entry = readdir(d)) && strcmp(entry->d_name, "f") == 0 && closedir(d) == 0);
}

static void streams_and_time(void) {
  struct timespec before, after;
  struct pollfd both[2] = {{0, POLLIN, 0}, {1, POLLOUT, 0}};
  REFUSED(shutdown(1, SHUT_RD), ENOTSOCK);
  REFUSED(shutdown(99, SHUT_RD), EBADF);
  REFUSED(lseek(1, 0, SEEK_CUR), ESPIPE);
  CHECK(!isatty(1) && getchar() == EOF);
  CHECK(clock_gettime(CLOCK_MONOTONIC, &before) == 0 && sleep(3000) == 0);
  CHECK(clock_gettime(CLOCK_MONOTONIC, &after) == 0 && after.tv_sec - before.tv_sec == 3000);
  CHECK(poll(both, 2, 100) == 2 && both[1].revents == POLLOUT);
  CHECK(poll(NULL, 0, 50) == 0);
}

int main(void) {
  sizes_and_positions();
  times();
  names();
  listing();
  streams_and_time();
  CHECK(unlink("d/l") == 0);
  return 0;
}
