/* Small programs in one, for many jobs of different kinds: the first argument says which.

   words | sort | primes LIMIT | life STEPS | ends CODE
   Those that read take the one file below /inputs. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_INPUT (1u << 20)
#define MAX_WORDS 4096

static char input[MAX_INPUT + 1];
static size_t input_size;

static void die(const char *why) {
  fprintf(stderr, "%s\n", why);
  exit(100);
}

static FILE *create(const char *name) {
  char path[256];
  snprintf(path, sizeof path, "/outputs/%s", name);
  FILE *file = fopen(path, "wb");
  if (!file) die("cannot write");
  return file;
}

static void read_input(void) {
  char path[1024];
  DIR *folder = opendir("/inputs");
  if (!folder) die("no inputs");
  for (struct dirent *entry; (entry = readdir(folder));) {
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/inputs/%s", entry->d_name);
    FILE *file = fopen(path, "rb");
    if (!file) die("cannot read");
    input_size = fread(input, 1, MAX_INPUT, file);
    fclose(file);
    closedir(folder);
    return;
  }
  die("no file");
}

typedef struct {
  const char *text;
  unsigned count;
} Word;

static int compare_words(const void *a, const void *b) {
  const Word *x = a, *y = b;
  if (x->count != y->count) return x->count < y->count ? 1 : -1;
  return strcmp(x->text, y->text);
}

static void count_words(void) {
  static Word words[MAX_WORDS];
  unsigned count = 0, total = 0;
  read_input();
  input[input_size] = 0;
  for (char *text = strtok(input, " \n"); text; text = strtok(NULL, " \n"), total++) {
    unsigned at = 0;
    while (at < count && strcmp(words[at].text, text)) at++;
    if (at == MAX_WORDS) die("too many words");
    if (at == count) words[count++].text = text;
    words[at].count++;
  }
  qsort(words, count, sizeof *words, compare_words);
  FILE *file = create("words.txt");
  for (unsigned at = 0; at < count; at++) fprintf(file, "%s %u\n", words[at].text, words[at].count);
  fclose(file);
  printf("%u of %u\n", count, total);
}

static int compare_numbers(const void *a, const void *b) {
  uint32_t x, y;
  memcpy(&x, a, 4);
  memcpy(&y, b, 4);
  return x < y ? -1 : x > y;
}

static void sort_numbers(void) {
  read_input();
  qsort(input, input_size / 4, 4, compare_numbers);
  FILE *file = create("sorted.bin");
  fwrite(input, 4, input_size / 4, file);
  fclose(file);
}

static void find_primes(unsigned limit) {
  unsigned count = 0;
  unsigned long long sum = 0;
  for (unsigned n = 2; n < limit; n++) {
    unsigned d = 2;
    while (d * d <= n && n % d) d++;
    if (d * d > n) count++, sum += n;
  }
  printf("%u %llu\n", count, sum);
}

static void live(int steps) {
  read_input();
  int width = (int)(strchr(input, '\n') - input), height = (int)(input_size / (size_t)(width + 1));
  char *now = calloc(2, (size_t)(width * height)), *next = now + width * height;
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++) now[y * width + x] = input[y * (width + 1) + x] == '#';
  for (int step = 0; step < steps; step++) {
    for (int y = 0; y < height; y++)
      for (int x = 0; x < width; x++) {
        int around = -now[y * width + x];
        for (int dy = height - 1; dy <= height + 1; dy++)
          for (int dx = width - 1; dx <= width + 1; dx++) around += now[(y + dy) % height * width + (x + dx) % width];
        next[y * width + x] = around == 3 || (around == 2 && now[y * width + x]);
      }
    char *swap = now;
    now = next;
    next = swap;
  }
  FILE *file = create("life.txt");
  for (int y = 0; y < height; y++) {
    for (int x = 0; x < width; x++) fputc(now[y * width + x] ? '#' : '.', file);
    fputc('\n', file);
  }
  fclose(file);
}

int main(int argc, char **argv) {
  const char *kind = argc > 1 ? argv[1] : "";
  int number = argc > 2 ? atoi(argv[2]) : 0;
  if (!strcmp(kind, "words")) count_words();
  else if (!strcmp(kind, "sort")) sort_numbers();
  else if (!strcmp(kind, "primes")) find_primes((unsigned)number);
  else if (!strcmp(kind, "life")) live(number);
  else if (!strcmp(kind, "ends")) {
    printf("ends with %d\n", number);
    return number;
  } else die("unknown kind");
  return 0;
}
