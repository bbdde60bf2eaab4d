/* A program for containers that tries what its first argument says, and tells what it achieved. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char block[1 << 16];

static void say(const char *what, long result) { printf("%s %s\n", what, result < 0 ? "refused" : "done"); }

static long fill(const char *path) {
  long total = 0, count;
  int file = open(path, O_CREAT | O_WRONLY, 0600);
  while (file >= 0 && (count = write(file, block, sizeof block)) > 0) total += count;
  return total;
}

static int use_memory(void) {
  for (int i = 0; i < 1 << 20; i++) {
    volatile char *piece = malloc(1 << 20);
    if (!piece) return 9;
    for (int at = 0; at < 1 << 20; at += 4096) piece[at] = 1;
  }
  return 0;
}

static int fork_all(void) {
  int count = 0;
  pid_t child;
  while ((child = fork()) > 0) count++;
  if (child == 0) pause();
  printf("%s\n", count > 10 && count < 64 ? "bounded" : "unbounded");
  return 0;
}

static int look_around(void) {
  struct sockaddr_in address = {AF_INET, htons(80), {htonl(0x7f000001)}};
  struct stat status;
  DIR *nets = opendir("/sys/class/net");
  int others = 0;
  for (struct dirent *each; nets && (each = readdir(nets));) others += each->d_name[0] != '.' && strcmp(each->d_name, "lo");
  printf("interfaces %d\n", others);
  DIR *processes = opendir("/proc");
  others = 0;
  for (struct dirent *each; processes && (each = readdir(processes));) others += each->d_name[0] >= '1' && each->d_name[0] <= '9';
  printf("processes %d\n", others);
  address.sin_addr.s_addr = htonl(0x08080808);
  say("connect", connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address));
  say("mknod", mknod("/outputs/disk", S_IFBLK | 0600, 0xfe00));
  say("mount", mount("none", "/tmp", "tmpfs", 0, ""));
  say("keyring", syscall(SYS_keyctl, 0, -3, 1, 0, 0));
  say("setuid", setuid(0));
  say("unshare", syscall(SYS_unshare, 0x10000000));
  say("root", open("/x", O_CREAT | O_WRONLY, 0600));
  say("inputs", open("/inputs/x", O_CREAT | O_WRONLY, 0600));
  say("kcore", open("/proc/kcore", O_RDONLY) < 0 ? -1 : (long)read(open("/proc/kcore", O_RDONLY), block, 1) - 1);
  say("sysrq", open("/proc/sysrq-trigger", O_WRONLY));
  say("cgroup", open("/sys/fs/cgroup/memory/memory.limit_in_bytes", O_WRONLY));
  say("daemon", stat("/var/run/docker.sock", &status));
  say("host", stat("/etc/shadow", &status));
  return getuid() == 65534 ? 0 : 1;
}

/* The same outputs as `good` with modes and times of their own, and names that the rules of links must keep in. */
static int dress_up(void) {
  struct timespec times[2] = {{1, 1}, {1, 1}};
  say("link to input", link("/inputs/input", "/outputs/stolen"));
  say("owner", chown("/outputs/copy", 0, 0));
  chmod("/outputs/copy", 06000), chmod("/outputs/empty", 0);
  utimensat(AT_FDCWD, "/outputs/copy", times, 0), utimensat(AT_FDCWD, "/outputs/empty", times, 0);
  return 0;
}

/* A child that outlives its parent, with a session of its own, deaf to signals. */
static pid_t become_daemon(void) {
  pid_t child = fork();
  if (child) return child;
  setsid();
  for (int number = 1; number < 32; number++) signal(number, SIG_IGN);
  return 0;
}

/* What looks like a file and a folder at one moment is a link to the host's at the next. */
static void swap_forever(void) {
  mkdir("/outputs/a", 0700), mkdir("/outputs/b", 0700);
  close(open("/outputs/a/passwd", O_CREAT | O_WRONLY, 0600)), close(open("/outputs/c", O_CREAT | O_WRONLY, 0600));
  symlink("/etc", "/outputs/d"), symlink("/etc/passwd", "/outputs/e");
  for (;;) {
    syscall(SYS_renameat2, AT_FDCWD, "/outputs/a", AT_FDCWD, "/outputs/d", 2);
    syscall(SYS_renameat2, AT_FDCWD, "/outputs/c", AT_FDCWD, "/outputs/e", 2);
  }
}

static int leave(const char *what) {
  struct sockaddr_un place = {AF_UNIX, "/outputs/socket"};
  char name[64];
  if (!strcmp(what, "link")) return symlink("/etc/passwd", "/outputs/link");
  if (!strcmp(what, "climb")) return symlink("../../../../etc", "/outputs/up");
  if (!strcmp(what, "pipe")) return mkfifo("/outputs/pipe", 0600);
  if (!strcmp(what, "socket")) return bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&place, sizeof place);
  if (!strcmp(what, "sparse")) return ftruncate(open("/outputs/sparse", O_CREAT | O_WRONLY, 0600), 1L << 40);
  if (!strcmp(what, "links")) {
    if (write(open("/outputs/0", O_CREAT | O_WRONLY, 0600), block, sizeof block) < 0) return 1;
    for (int i = 1; i < 90; i++)
      if (snprintf(name, sizeof name, "/outputs/%d", i), link("/outputs/0", name)) return 1;
  }
  if (!strcmp(what, "name")) return mkdir("/outputs/\xff\xfe", 0700);
  if (!strcmp(what, "many"))
    for (int i = 0; i < 1000000; i++)
      if (snprintf(name, sizeof name, "/outputs/%d", i), mkdir(name, 0700)) return 0;
  return 0;
}

int main(int count, char **words) {
  const char *what = count > 1 ? words[1] : "good";
  if (!strcmp(what, "good")) {
    FILE *in = fopen("/inputs/input", "r"), *out = fopen("/outputs/copy", "w");
    if (in) fputs(fgets(block, sizeof block, in), out);
    mkdir("/outputs/empty", 0700);
    printf("%s %s\n", getenv("WORD") ? getenv("WORD") : "-", getenv("OMP_NUM_THREADS"));
    if (fclose(out)) return 1;
    return count > 2 ? dress_up() : 0;
  }
  if (!strcmp(what, "exit")) return atoi(words[2]);
  if (!strcmp(what, "kill")) return raise(SIGKILL);
  if (!strcmp(what, "sleep")) return sleep(1000) != 0;
  if (!strcmp(what, "deaf")) {
    for (int number = 1; number < 32; number++) signal(number, SIG_IGN);
    become_daemon();
    for (;;) sleep(1000);
  }
  if (!strcmp(what, "swap")) {
    if (!become_daemon()) swap_forever();
    usleep(50000);
    return 0;
  }
  if (!strcmp(what, "memory")) return use_memory();
  if (!strcmp(what, "child")) {
    if (!fork()) _exit(use_memory());
    wait(0);
    return 0;
  }
  if (!strcmp(what, "talk"))
    while (write(1, block, sizeof block) > 0) {
    }
  if (!strcmp(what, "forks")) return fork_all();
  if (!strcmp(what, "fill")) {
    long inside = fill("/outputs/x"), temporary = fill("/tmp/x");
    fprintf(stderr, "%ld %ld\n", inside, temporary);
    return 0;
  }
  if (!strcmp(what, "look")) return look_around();
  return leave(what);
}
