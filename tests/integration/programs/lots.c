/* For jobs in containers: `count` writes how many bytes /inputs/data has to /outputs/count; `toss` gives one result in
   seven of ten runs and another one in the rest, by chance; `see` says which of the files a, b and c /inputs has. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

int main(int count, char **words) {
  if (count > 1 && !strcmp(words[1], "toss")) {
    unsigned drawn;
    if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn) return 1;
    return puts(drawn % 10 < 7 ? "heads" : "tails") < 0;
  }
  if (count > 1 && !strcmp(words[1], "see")) {
    const char *paths[] = {"/inputs/a", "/inputs/b", "/inputs/c"};
    for (int at = 0; at < 3; at++)
      if (fopen(paths[at], "r")) puts(paths[at]);
    return 0;
  }
  FILE *in = fopen("/inputs/data", "r"), *out = fopen("/outputs/count", "w");
  long bytes = 0;
  while (in && fgetc(in) != EOF) bytes++;
  return !in || !out || fprintf(out, "%ld\n", bytes) < 0 || fclose(out);
}
