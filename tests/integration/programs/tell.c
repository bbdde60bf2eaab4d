/* Tells of each file below /inputs its path and size, on standard output and in a file of its own in /outputs.
   Ends with 3 where a file begins with "bad". */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int bad = 0;

static void tell(const char *path) {
    char name[512], head[4] = "";
    long size = 0;
    FILE *in = fopen(path, "rb"), *out;
    size_t got = fread(head, 1, 3, in);
    fseek(in, 0, SEEK_END);
    size = ftell(in);
    fclose(in);
    if (got == 3 && strcmp(head, "bad") == 0) bad = 1;
    printf("%s %ld\n", path + strlen("/inputs/"), size);
    snprintf(name, sizeof name, "/outputs/%s.size", strrchr(path, '/') + 1);
    out = fopen(name, "wb");
    fprintf(out, "%ld\n", size);
    fclose(out);
}

static void walk(const char *folder) {
    struct dirent *entry;
    struct stat status;
    char path[512];
    DIR *dir = opendir(folder);
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        stat(path, &status);
        if (S_ISDIR(status.st_mode)) walk(path);
        else tell(path);
    }
    closedir(dir);
}

int main(void) {
    walk("/inputs");
    return bad ? 3 : 0;
}
