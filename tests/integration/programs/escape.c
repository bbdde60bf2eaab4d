/* For containers. `hide` leaves a secret in every place that another container might see, and stays for a while; `seek`
   looks for it there and tells in how many it was found; `both` does one after the other, in one container, which shows
   that the seeker would find it. `probe` tries what no program of a stranger may do, and tells what it achieved. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { KEY = 0x51756f, MOST = 1 << 20 };
static char secret[64], data[MOST + 1];
static int found;

/* Put together at run time, so that no copy of the program has it. */
static void make_secret(void) {
  static const char parts[] = "nfpeqbo-pqehjx";
  strcpy(secret, "quorate-");
  for (int at = 0; parts[at]; at++) secret[8 + at] = parts[at] == '-' ? '-' : 'a' + (parts[at] - 'a' + 13) % 26;
}

static void put(const char *path) {
  FILE *file = fopen(path, "w");
  if (file) fputs(secret, file), fclose(file);
}

static struct sockaddr_un place = {AF_UNIX, "\0quorate-between"};

static void hide(void) {
  put("/tmp/secret"), put("/outputs/secret"), put("/dev/shm/secret"), put("/var/tmp/secret"), put("/secret");
  int segment = shmget(KEY, 4096, IPC_CREAT | 0666);
  char *shared = segment < 0 ? (char *)-1 : shmat(segment, 0, 0);
  if (shared != (char *)-1) strcpy(shared, secret);
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  bind(listener, (struct sockaddr *)&place, sizeof place), listen(listener, 1);
  struct sockaddr_in port = {AF_INET, htons(7777), {htonl(INADDR_ANY)}};
  int server = socket(AF_INET, SOCK_STREAM, 0);
  bind(server, (struct sockaddr *)&port, sizeof port), listen(server, 1);
  mkdir("/outputs/ready", 0700);
}

static void look(const char *what, const char *path) {
  int file = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
  long count = file < 0 ? -1 : read(file, data, MOST);
  if (file >= 0) close(file);
  if (count <= 0 || !memmem(data, count, secret, strlen(secret))) return;
  found++;
  fprintf(stderr, "%s %s\n", what, path);
}

static int visit(const char *path, const struct stat *status, int kind, struct FTW *at) {
  (void)at;
  if (kind == FTW_F && S_ISREG(status->st_mode) && strncmp(path, "/proc/sys", 9)) look("file", path);
  return 0;
}

static int reaches(int family, int kind, struct sockaddr *address, unsigned size) {
  return !connect(socket(family, kind, 0), address, size);
}

static int seek(void) {
  struct sockaddr_in port = {AF_INET, htons(7777), {htonl(INADDR_LOOPBACK)}};
  nftw("/", visit, 32, FTW_PHYS);
  int segment = shmget(KEY, 4096, 0);
  char *shared = segment < 0 ? (char *)-1 : shmat(segment, 0, SHM_RDONLY);
  if (shared != (char *)-1 && strstr(shared, secret)) found++, fprintf(stderr, "shared memory\n");
  if (reaches(AF_UNIX, SOCK_STREAM, (struct sockaddr *)&place, sizeof place)) found++, fprintf(stderr, "abstract socket\n");
  if (reaches(AF_INET, SOCK_STREAM, (struct sockaddr *)&port, sizeof port)) found++, fprintf(stderr, "loopback\n");
  printf("found %d\n", found);
  return 0;
}

static void say(const char *what, long result) { printf("%s %s\n", what, result < 0 ? "refused" : "done"); }

/* Of calls that are wrong, so that they change nothing: an error that is not about rights tells that they were looked at. */
static void say_allowed(const char *what, long result) {
  say(what, result < 0 && (errno == EPERM || errno == ENOSYS) ? -1 : 0);
}

static const char *of(const char *process, const char *name) {
  static char path[100];
  return snprintf(path, sizeof path, "/proc/%s/%s", process, name), path;
}

static long holds_secret(const char *path) {
  int file = open(path, O_RDONLY);
  long count = file < 0 ? -1 : read(file, data, MOST);
  return count > 0 && memmem(data, count, secret, strlen(secret)) ? 0 : -1;
}

/* A datagram socket connects without a packet, if there is a way to go. */
static void probe_network(const char *port) {
  struct sockaddr_in host = {AF_INET, htons(atoi(port)), {htonl(INADDR_LOOPBACK)}};
  struct sockaddr_in metadata = {AF_INET, htons(80), {inet_addr("169.254.169.254")}};
  struct sockaddr_in names = {AF_INET, htons(53), {inet_addr("9.9.9.9")}};
  struct sockaddr_in6 wide = {AF_INET6, htons(53), 0, {{{0x20, 1, 0x48, 0x60}}}, 0};
  struct sockaddr_un daemon = {AF_UNIX, "\0quorate-host"};
  say("loopback", -!reaches(AF_INET, SOCK_STREAM, (struct sockaddr *)&host, sizeof host));
  say("abstract", -!reaches(AF_UNIX, SOCK_STREAM, (struct sockaddr *)&daemon, 2 + 13));
  say("metadata", -!reaches(AF_INET, SOCK_DGRAM, (struct sockaddr *)&metadata, sizeof metadata));
  say("dns", -!reaches(AF_INET, SOCK_DGRAM, (struct sockaddr *)&names, sizeof names));
  say("ipv6", -!reaches(AF_INET6, SOCK_DGRAM, (struct sockaddr *)&wide, sizeof wide));
  say("raw", socket(AF_INET, SOCK_RAW, 1));
}

static void probe_process(const char *process) {
  struct stat status;
  say("sees", stat(of(process, ""), &status));
  say("signal", kill(atoi(process), 0));
  say("trace", ptrace(PTRACE_SEIZE, atoi(process), 0, 0));
  say("environment", holds_secret(of(process, "environ")));
  say("host files", open(of(process, "root/etc/passwd"), O_RDONLY));
  say("setns", syscall(SYS_setns, open(of(process, "ns/uts"), O_RDONLY), 0));
}

static void probe_kernel(void) {
  struct timespec now;
  struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event};
  union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
  struct { unsigned size, kind; char bytes[8]; } handle = {8, 1, ""};
  say("bpf", syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map));
  say("perf", syscall(SYS_perf_event_open, &event, -1, 0, -1, 0));
  say("faults", syscall(SYS_userfaultfd, 0));
  say("keyring", syscall(SYS_keyctl, 0, -2, 1, 0, 0));
  say("key", syscall(SYS_add_key, "user", "quorate", "x", 1, -2));
  say("log", klogctl(3, data, 100));
  clock_gettime(CLOCK_REALTIME, &now);
  say("clock", clock_settime(CLOCK_REALTIME, &now));
  say("name", sethostname("x", 1));
  say_allowed("module", syscall(SYS_finit_module, -1, "", 0));
  say_allowed("handle", syscall(SYS_open_by_handle_at, AT_FDCWD, &handle, O_RDONLY));
  mknod("/tmp/memory", S_IFCHR | 0600, 0x101), mknod("/tmp/messages", S_IFCHR | 0600, 0x10b);
  say("memory", open("/tmp/memory", O_RDONLY));
  say("messages", open("/tmp/messages", O_RDONLY));
  say("kcore", open("/proc/kcore", O_RDONLY) < 0 ? -1 : (long)read(open("/proc/kcore", O_RDONLY), data, 1) - 1);
  say("core", open("/proc/sys/kernel/core_pattern", O_WRONLY));
  say("sysrq", open("/proc/sysrq-trigger", O_WRONLY));
}

static int probe(const char *port, const char *process) {
  printf("user %d of %d\n", geteuid(), getuid());
  probe_network(port), probe_process(process), probe_kernel();
  say("user", setuid(0));
  say("mount", mount("none", "/tmp", "tmpfs", 0, ""));
  say("remount", mount(0, "/sys", 0, MS_REMOUNT | MS_BIND, 0));
  say("chroot", chroot("/"));
  long child = syscall(SYS_clone, 0x20000 | SIGCHLD, 0, 0, 0, 0);
  if (!child) _exit(0);
  say("namespace", child);
  say("users", syscall(SYS_unshare, 0x10000000));
  return 0;
}

int main(int count, char **words) {
  const char *what = count > 1 ? words[1] : "";
  make_secret();
  if (!strcmp(what, "hide")) return hide(), puts("hidden"), fflush(stdout), (int)sleep(atoi(words[2]));
  if (!strcmp(what, "both")) return hide(), seek();
  if (!strcmp(what, "seek")) return seek();
  if (!strcmp(what, "probe")) return probe(words[2], words[3]);
  return 1;
}
