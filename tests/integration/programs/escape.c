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

static int reaches(int family, struct sockaddr *address, unsigned size) {
  return !connect(socket(family, SOCK_STREAM, 0), address, size);
}

static int seek(void) {
  struct sockaddr_in port = {AF_INET, htons(7777), {htonl(INADDR_LOOPBACK)}};
  nftw("/", visit, 32, FTW_PHYS);
  int segment = shmget(KEY, 4096, 0);
  char *shared = segment < 0 ? (char *)-1 : shmat(segment, 0, SHM_RDONLY);
  if (shared != (char *)-1 && strstr(shared, secret)) found++, fprintf(stderr, "shared memory\n");
  if (reaches(AF_UNIX, (struct sockaddr *)&place, sizeof place)) found++, fprintf(stderr, "abstract socket\n");
  if (reaches(AF_INET, (struct sockaddr *)&port, sizeof port)) found++, fprintf(stderr, "loopback\n");
  printf("found %d\n", found);
  return 0;
}

static void say(const char *what, long result) { printf("%s %s\n", what, result < 0 ? "refused" : "done"); }

static int probe(const char *port, const char *process) {
  struct sockaddr_in host = {AF_INET, htons(atoi(port)), {htonl(INADDR_LOOPBACK)}};
  struct sockaddr_in metadata = {AF_INET, htons(80), {inet_addr("169.254.169.254")}};
  struct sockaddr_in6 wide = {AF_INET6, htons(80), 0, {{{0x20, 1, 0x48, 0x60}}}, 0};
  struct sockaddr_un daemon = {AF_UNIX, "\0quorate-host"};
  struct timespec now;
  struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event};
  union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
  printf("user %d of %d\n", geteuid(), getuid());
  say("loopback", -!reaches(AF_INET, (struct sockaddr *)&host, sizeof host));
  say("abstract", -!reaches(AF_UNIX, (struct sockaddr *)&daemon, 2 + 13));
  say("metadata", -!reaches(AF_INET, (struct sockaddr *)&metadata, sizeof metadata));
  say("ipv6", -!reaches(AF_INET6, (struct sockaddr *)&wide, sizeof wide));
  say("raw", socket(AF_INET, SOCK_RAW, 1));
  say("signal", kill(atoi(process), 0));
  say("trace", ptrace(PTRACE_SEIZE, atoi(process), 0, 0));
  say("bpf", syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map));
  say("perf", syscall(SYS_perf_event_open, &event, -1, 0, -1, 0));
  say("faults", syscall(SYS_userfaultfd, 0));
  say("log", klogctl(3, data, 100));
  clock_gettime(CLOCK_REALTIME, &now);
  say("clock", clock_settime(CLOCK_REALTIME, &now));
  say("name", sethostname("x", 1));
  say("memory", open("/dev/mem", O_RDONLY));
  say("core", open("/proc/sys/kernel/core_pattern", O_WRONLY));
  say("host files", open("/proc/1/root/etc/shadow", O_RDONLY));
  say("devices", mknod("/tmp/d", S_IFCHR | 0600, 0x101));
  long child = syscall(SYS_clone, 0x20000 | SIGCHLD, 0, 0, 0, 0);
  if (!child) _exit(0);
  say("namespace", child);
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
