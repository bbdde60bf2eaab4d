/* For jobs in containers: `count` writes how many bytes /inputs/data has to /outputs/count; `toss` gives one result in
   seven of ten runs and another one in the rest, by chance. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

int main(int count, char **words) {
  if (count > 1 && !strcmp(words[1], "toss")) {
    unsigned drawn;
    if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn) return 1;
    return puts(drawn % 10 < 7 ? "heads" : "tails") < 0;
  }
  FILE *in = fopen("/inputs/data", "r"), *out = fopen("/outputs/count", "w");
  long bytes = 0;
  while (in && fgetc(in) != EOF) bytes++;
  return !in || !out || fprintf(out, "%ld\n", bytes) < 0 || fclose(out);
}
