// Counts cells in microscopy images: smooth, threshold (Otsu 1979), split what touches by its distance map, measure.
//
// Reads every .pgm (grey: cells are bright) and .ppm (colour: nuclei stained by hematoxylin) below the input directory,
// 8 bits a sample. Beside each image's path in the output directory it writes STEM.csv, a row for each cell, and
// STEM.labels.pgm, 16 bits a pixel: 0 is background, n is cell n. One line for each image goes to standard output.
//
// usage: cell-counting [--dark] [--min-area PIXELS] [INPUTS [OUTPUTS]]     by default /inputs and /outputs
//   --dark            in grey images, cells are darker than what is around them
//   --min-area PIXELS smaller objects are no cells; by default 30
//
// It uses libc only, one thread, and no clock or randomness: the same input gives the same bytes.

#define _POSIX_C_SOURCE 200809L // strdup

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { EXIT_USAGE = 2, EXIT_INPUT = 3, EXIT_OUTPUT = 4 };

#define MAX_SIDE 16384u
#define MAX_PIXELS (32u << 20)
#define MAX_DEPTH 16
#define MAX_LABELS 65535u
#define SMOOTHING 3     // passes of a 3 × 3 mean: about a Gaussian of 1.4 pixels
#define UNIT 16         // distances are kept in sixteenths of a pixel
#define MIN_DYNAMICS 12 // two cells are one if the neck between them is less than this much narrower than the smaller
#define LEVELS 256
#define SURROUNDINGS 12u // pixels to each side: a stained nucleus and what is around it
// How much less a pixel of optical density 1 lets through than the next of 256 levels shows.
#define DENSITY_SCALE 170.0

// Column "hematoxylin" of the inverse of the stain matrix of Ruifrok and Johnston (2001), whose rows are hematoxylin
// (0.65, 0.70, 0.29), eosin (0.07, 0.99, 0.11) and DAB (0.27, 0.57, 0.78).
static const double HEMATOXYLIN[3] = {1.87798274, -0.06590806, -0.60190736};

typedef struct {
  uint32_t width, height;
  int is_stained;
  uint8_t *signal; // 255 is surely cell
} Image;

typedef struct {
  int is_dark;
  uint32_t min_area;
  const char *inputs, *outputs;
  uint32_t images;
} Run;

typedef struct {
  uint64_t area, sum_x, sum_y, sum_signal;
  int touches_border;
} Cell;

static void fail(int code, const char *format, ...) {
  va_list args;
  va_start(args, format);
  fputs("cell-counting: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
  exit(code);
}

static void *allocate(size_t count, size_t size) {
  void *memory = calloc(count ? count : 1, size);
  if (!memory) fail(EXIT_INPUT, "out of memory for %zu bytes: the image is too large for the job's memory limit", count * size);
  return memory;
}

// Reading ------------------------------------------------------------------------------------------------------------

// The next number of a PNM header; comments run from # to the end of their line.
static uint32_t read_number(FILE *file, const char *path) {
  int c = fgetc(file);
  while (c == '#' || c == ' ' || c == '\t' || c == '\r' || c == '\n') {
    if (c == '#')
      while (c != '\n' && c != EOF) c = fgetc(file);
    c = fgetc(file);
  }
  uint32_t value = 0;
  int digits = 0;
  for (; c >= '0' && c <= '9'; c = fgetc(file)) {
    if (++digits > 6) fail(EXIT_INPUT, "%s: a number in the header is too large", path);
    value = value * 10 + (uint32_t)(c - '0');
  }
  if (digits == 0) fail(EXIT_INPUT, "%s: the header lacks a number", path);
  return value; // the one blank after it is read
}

static uint8_t stain(const uint8_t *rgb) {
  double density = 0;
  for (int c = 0; c < 3; c++) density -= HEMATOXYLIN[c] * log10((rgb[c] + 1) / 256.0);
  double level = density * DENSITY_SCALE;
  return level <= 0 ? 0 : level >= 255 ? 255 : (uint8_t)level;
}

static Image read_image(const Run *run, const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) fail(EXIT_INPUT, "%s: %s", path, strerror(errno));
  int magic = fgetc(file), kind = fgetc(file);
  if (magic != 'P' || (kind != '5' && kind != '6')) fail(EXIT_INPUT, "%s: not a binary PGM or PPM (P5, P6)", path);
  Image image = {.width = read_number(file, path), .is_stained = kind == '6'};
  image.height = read_number(file, path);
  uint32_t most = read_number(file, path);
  if (most != 255) fail(EXIT_INPUT, "%s: its largest value is %u, not 255: write it with 8 bits a sample", path, most);
  if (image.width == 0 || image.height == 0 || image.width > MAX_SIDE || image.height > MAX_SIDE ||
      (uint64_t)image.width * image.height > MAX_PIXELS)
    fail(EXIT_INPUT, "%s: %u x %u pixels; at most %u pixels are supported", path, image.width, image.height, MAX_PIXELS);
  size_t samples = image.is_stained ? 3 : 1, row_bytes = image.width * samples;
  image.signal = allocate((size_t)image.width * image.height, 1);
  uint8_t *row = allocate(row_bytes, 1);
  for (uint32_t y = 0; y < image.height; y++) {
    if (fread(row, 1, row_bytes, file) != row_bytes) fail(EXIT_INPUT, "%s: cut off in row %u of %u", path, y, image.height);
    uint8_t *out = image.signal + (size_t)y * image.width;
    for (uint32_t x = 0; x < image.width; x++)
      out[x] = image.is_stained ? stain(row + 3 * x) : run->is_dark ? (uint8_t)(255 - row[x]) : row[x];
  }
  free(row);
  fclose(file);
  return image;
}

// Segmentation -------------------------------------------------------------------------------------------------------

// One pass of a 3 × 3 mean; at the border, the nearest pixel stands for what is outside.
static void smooth_once(const Image *image, uint16_t *values, uint16_t *scratch) {
  uint32_t w = image->width, h = image->height;
  for (uint32_t y = 0; y < h; y++)
    for (uint32_t x = 0; x < w; x++) {
      const uint16_t *row = values + (size_t)y * w;
      scratch[(size_t)y * w + x] = (uint16_t)((row[x ? x - 1 : 0] + row[x] + row[x + 1 < w ? x + 1 : x] + 1) / 3);
    }
  for (uint32_t y = 0; y < h; y++)
    for (uint32_t x = 0; x < w; x++) {
      uint32_t above = y ? y - 1 : 0, below = y + 1 < h ? y + 1 : y;
      values[(size_t)y * w + x] =
          (uint16_t)((scratch[(size_t)above * w + x] + scratch[(size_t)y * w + x] + scratch[(size_t)below * w + x] + 1) / 3);
    }
}

// The threshold between two classes whose variance between each other is largest (Otsu 1979).
static uint32_t find_threshold(const uint16_t *values, size_t total) {
  uint64_t bins[LEVELS] = {0}, sum = 0;
  for (size_t i = 0; i < total; i++) {
    bins[values[i] >> 8]++;
    sum += values[i] >> 8;
  }
  uint64_t below = 0, sum_below = 0;
  double best = -1;
  uint32_t threshold = LEVELS; // an image of one value has no cell
  for (uint32_t level = 0; level + 1 < LEVELS; level++) {
    below += bins[level];
    sum_below += bins[level] * level;
    if (below == 0 || below == total) continue;
    double low = (double)sum_below / (double)below, high = (double)(sum - sum_below) / (double)(total - below);
    double between = (double)below * (double)(total - below) * (high - low) * (high - low);
    if (between > best) {
      best = between;
      threshold = level + 1;
    }
  }
  return threshold;
}

// Takes away what is not above the mean of its surroundings: tissue of other colours holds some of the stain, too.
static void keep_local_peaks(const Image *image, const uint16_t *values, uint8_t *is_cell) {
  uint32_t w = image->width, h = image->height;
  uint64_t *sums = allocate(((size_t)w + 1) * (h + 1), sizeof *sums); // of all pixels above and to the left
  for (uint32_t y = 0; y < h; y++) {
    uint64_t row = 0;
    for (uint32_t x = 0; x < w; x++) {
      row += values[(size_t)y * w + x];
      sums[((size_t)y + 1) * (w + 1) + x + 1] = sums[(size_t)y * (w + 1) + x + 1] + row;
    }
  }
  for (uint32_t y = 0; y < h; y++) {
    size_t top = y > SURROUNDINGS ? y - SURROUNDINGS : 0, bottom = y + SURROUNDINGS + 1 < h ? y + SURROUNDINGS + 1 : h;
    for (uint32_t x = 0; x < w; x++) {
      size_t left = x > SURROUNDINGS ? x - SURROUNDINGS : 0, right = x + SURROUNDINGS + 1 < w ? x + SURROUNDINGS + 1 : w;
      uint64_t sum = sums[bottom * (w + 1) + right] - sums[top * (w + 1) + right] - sums[bottom * (w + 1) + left] +
                     sums[top * (w + 1) + left];
      if (values[(size_t)y * w + x] * (uint64_t)((bottom - top) * (right - left)) <= sum) is_cell[(size_t)y * w + x] = 0;
    }
  }
  free(sums);
}

// Sets what the background does not reach from the border: a nucleus may be pale inside.
static void fill_holes(const Image *image, uint8_t *is_cell) {
  uint32_t w = image->width, h = image->height;
  size_t total = (size_t)w * h, count = 0;
  uint8_t *is_outside = allocate(total, 1);
  uint32_t *stack = allocate(total, sizeof *stack);
  for (size_t i = 0; i < total; i++) {
    uint32_t x = (uint32_t)(i % w), y = (uint32_t)(i / w);
    if (is_cell[i] || is_outside[i] || (x && y && x + 1 < w && y + 1 < h)) continue;
    is_outside[i] = 1;
    stack[count++] = (uint32_t)i;
    while (count) {
      size_t at = stack[--count];
      uint32_t ax = (uint32_t)(at % w), ay = (uint32_t)(at / w);
      size_t next[4] = {ax ? at - 1 : at, ax + 1 < w ? at + 1 : at, ay ? at - w : at, ay + 1 < h ? at + w : at};
      for (int n = 0; n < 4; n++)
        if (!is_cell[next[n]] && !is_outside[next[n]]) {
          is_outside[next[n]] = 1;
          stack[count++] = (uint32_t)next[n];
        }
    }
  }
  for (size_t i = 0; i < total; i++) is_cell[i] = !is_outside[i];
  free(stack);
  free(is_outside);
}

static uint32_t square_root(uint64_t value) {
  uint64_t root = (uint64_t)sqrt((double)value); // IEEE 754 rounds it alike everywhere; then exact
  while (root * root > value) root--;
  while ((root + 1) * (root + 1) <= value) root++;
  return (uint32_t)root;
}

// The column where the parabola over `right` comes below that over `left` (Meijster, Roerdink and Hesselink 2000).
static int64_t crossing(int64_t left, int64_t right, int64_t g_left, int64_t g_right) {
  int64_t numerator = right * right - left * left + g_right * g_right - g_left * g_left, denominator = 2 * (right - left);
  return numerator >= 0 ? numerator / denominator : -((-numerator + denominator - 1) / denominator);
}

// Distance to the nearest background pixel, in sixteenths of a pixel. Outside of the image is no background.
static void measure_distances(const Image *image, const uint8_t *is_cell, uint32_t *distances) {
  int64_t w = image->width, h = image->height, far = w + h;
  for (int64_t x = 0; x < w; x++) {
    int64_t run = far;
    for (int64_t y = 0; y < h; y++) distances[y * w + x] = (uint32_t)(run = !is_cell[y * w + x] ? 0 : run < far ? run + 1 : far);
    run = far;
    for (int64_t y = h - 1; y >= 0; y--) {
      run = !is_cell[y * w + x] ? 0 : run < far ? run + 1 : far;
      if (run < distances[y * w + x]) distances[y * w + x] = (uint32_t)run;
    }
  }
  int64_t *site = allocate((size_t)w, sizeof *site), *start = allocate((size_t)w, sizeof *start);
  uint32_t *row = allocate((size_t)w, sizeof *row);
  for (int64_t y = 0; y < h; y++) {
    uint32_t *g = distances + y * w;
    int64_t last = 0;
    site[0] = start[0] = 0;
    for (int64_t x = 1; x < w; x++) {
      while (last >= 0) {
        int64_t to_old = (start[last] - site[last]) * (start[last] - site[last]) + (int64_t)g[site[last]] * g[site[last]];
        int64_t to_new = (start[last] - x) * (start[last] - x) + (int64_t)g[x] * g[x];
        if (to_old <= to_new) break;
        last--;
      }
      if (last < 0) {
        last = 0;
        site[0] = x;
        start[0] = 0;
      } else {
        int64_t from = 1 + crossing(site[last], x, g[site[last]], g[x]);
        if (from < w) {
          site[++last] = x;
          start[last] = from;
        }
      }
    }
    for (int64_t x = w - 1; x >= 0; x--) {
      int64_t across = x - site[last];
      row[x] = square_root((uint64_t)((across * across + (int64_t)g[site[last]] * g[site[last]]) * UNIT * UNIT));
      if (x == start[last] && last > 0) last--;
    }
    memcpy(g, row, (size_t)w * sizeof *row);
  }
  free(row);
  free(start);
  free(site);
}

static const uint32_t *order_distances; // for the comparison below: qsort hands no context through

static int compare_pixels(const void *left, const void *right) {
  uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
  if (order_distances[a] != order_distances[b]) return order_distances[a] > order_distances[b] ? -1 : 1;
  return a < b ? -1 : a > b;
}

static uint32_t find_root(uint32_t *parents, uint32_t at) {
  while (parents[at] != at) at = parents[at] = parents[parents[at]];
  return at;
}

// Whether two hills of the distance map, the lower one with this peak, are one where they meet at this height.
static int is_one_hill(uint32_t lower_peak, uint32_t height) {
  uint32_t depth = lower_peak - height;
  return depth < MIN_DYNAMICS || depth * 5 < lower_peak; // a fifth of its radius
}

// Watershed of the distance map: pixels join hills from the top down; where two hills meet they become one if the lower
// is shallow. Afterwards parents[] leads each cell's pixels to one of them.
static void split_hills(const Image *image, const uint8_t *is_cell, const uint32_t *distances, uint32_t *parents) {
  uint32_t w = image->width, h = image->height;
  size_t total = (size_t)w * h, count = 0;
  uint32_t *order = allocate(total, sizeof *order);
  for (size_t i = 0; i < total; i++) {
    parents[i] = UINT32_MAX;
    if (is_cell[i]) order[count++] = (uint32_t)i;
  }
  order_distances = distances;
  qsort(order, count, sizeof *order, compare_pixels);
  for (size_t k = 0; k < count; k++) {
    uint32_t at = order[k], x = at % w, y = at / w, best = UINT32_MAX;
    uint32_t roots[8];
    int found = 0;
    for (int dy = -1; dy <= 1; dy++)
      for (int dx = -1; dx <= 1; dx++) {
        if ((dx == 0 && dy == 0) || x + (uint32_t)dx >= w || y + (uint32_t)dy >= h) continue; // -1 wraps round to large
        uint32_t next = (y + (uint32_t)dy) * w + x + (uint32_t)dx;
        if (parents[next] == UINT32_MAX) continue;
        uint32_t root = find_root(parents, next); // the root is a hill's highest pixel: it came first
        roots[found++] = root;
        if (best == UINT32_MAX || compare_pixels(&root, &best) < 0) best = root;
      }
    parents[at] = best == UINT32_MAX ? at : best;
    for (int n = 0; n < found; n++)
      if (roots[n] != best && find_root(parents, roots[n]) == roots[n] && is_one_hill(distances[roots[n]], distances[at]))
        parents[roots[n]] = best;
  }
  free(order);
}

// Numbers the cells that are large enough from 1 on, in the order of their first pixels; gives how many there are.
static uint32_t number_cells(const Run *run, const Image *image, uint32_t *parents, uint16_t *labels, Cell **cells,
                             const char *path) {
  uint32_t w = image->width, h = image->height;
  size_t total = (size_t)w * h;
  uint32_t *areas = allocate(total, sizeof *areas), *numbers = allocate(total, sizeof *numbers), count = 0;
  for (size_t i = 0; i < total; i++)
    if (parents[i] != UINT32_MAX) areas[find_root(parents, (uint32_t)i)]++;
  for (size_t i = 0; i < total; i++) {
    if (parents[i] == UINT32_MAX) continue;
    uint32_t root = find_root(parents, (uint32_t)i);
    if (areas[root] < run->min_area || numbers[root]) continue;
    if (count == MAX_LABELS) fail(EXIT_INPUT, "%s: more than %u cells: cut the image into tiles", path, MAX_LABELS);
    numbers[root] = ++count;
  }
  *cells = allocate(count, sizeof **cells);
  for (size_t i = 0; i < total; i++) {
    uint32_t number = parents[i] == UINT32_MAX ? 0 : numbers[find_root(parents, (uint32_t)i)];
    labels[i] = (uint16_t)number;
    if (!number) continue;
    Cell *cell = *cells + number - 1;
    uint32_t x = (uint32_t)(i % w), y = (uint32_t)(i / w);
    cell->area++;
    cell->sum_x += x;
    cell->sum_y += y;
    cell->sum_signal += image->signal[i];
    cell->touches_border |= x == 0 || y == 0 || x + 1 == w || y + 1 == h;
  }
  free(numbers);
  free(areas);
  return count;
}

// Writing ------------------------------------------------------------------------------------------------------------

static FILE *open_output(const char *path) {
  FILE *file = fopen(path, "wb");
  if (!file) fail(EXIT_OUTPUT, "%s: %s", path, strerror(errno));
  return file;
}

static void close_output(FILE *file, const char *path) {
  int has_failed = ferror(file);
  if (fclose(file) != 0 || has_failed) fail(EXIT_OUTPUT, "%s: could not be written whole", path);
}

static void print_tenths(FILE *file, uint64_t sum, uint64_t count) {
  uint64_t tenths = (10 * sum + count / 2) / count;
  fprintf(file, ",%llu.%llu", (unsigned long long)(tenths / 10), (unsigned long long)(tenths % 10));
}

static void write_table(const char *path, const Cell *cells, uint32_t count) {
  FILE *file = open_output(path);
  fputs("cell,area_px,x_px,y_px,mean_signal,touches_border\n", file);
  for (uint32_t i = 0; i < count; i++) {
    const Cell *cell = cells + i;
    fprintf(file, "%u,%llu", i + 1, (unsigned long long)cell->area);
    print_tenths(file, cell->sum_x, cell->area);
    print_tenths(file, cell->sum_y, cell->area);
    print_tenths(file, cell->sum_signal, cell->area);
    fprintf(file, ",%d\n", cell->touches_border);
  }
  close_output(file, path);
}

static void write_labels(const char *path, const Image *image, const uint16_t *labels) {
  FILE *file = open_output(path);
  size_t total = (size_t)image->width * image->height;
  uint8_t *bytes = allocate(total, 2); // PGM has the high byte first
  for (size_t i = 0; i < total; i++) {
    bytes[2 * i] = (uint8_t)(labels[i] >> 8);
    bytes[2 * i + 1] = (uint8_t)labels[i];
  }
  fprintf(file, "P5\n%u %u\n65535\n", image->width, image->height);
  fwrite(bytes, 2, total, file);
  free(bytes);
  close_output(file, path);
}

// Files --------------------------------------------------------------------------------------------------------------

static void join(char *path, size_t size, const char *folder, const char *name, const char *suffix) {
  if ((size_t)snprintf(path, size, "%s%s%s%s", folder, *name ? "/" : "", name, suffix) >= size)
    fail(EXIT_INPUT, "%s/%s: the path is too long", folder, name);
}

static void count_cells(Run *run, const char *relative) {
  char path[1024], stem[1024];
  join(path, sizeof path, run->inputs, relative, "");
  Image image = read_image(run, path);
  size_t total = (size_t)image.width * image.height;
  uint16_t *values = allocate(total, sizeof *values), *labels = allocate(total, sizeof *labels);
  for (size_t i = 0; i < total; i++) values[i] = (uint16_t)(image.signal[i] << 8);
  for (int pass = 0; pass < SMOOTHING; pass++) smooth_once(&image, values, labels);
  uint32_t threshold = find_threshold(values, total) << 8;
  uint8_t *is_cell = allocate(total, 1);
  for (size_t i = 0; i < total; i++) is_cell[i] = values[i] >= threshold;
  if (image.is_stained) keep_local_peaks(&image, values, is_cell);
  fill_holes(&image, is_cell);
  uint32_t *distances = allocate(total, sizeof *distances), *parents = allocate(total, sizeof *parents);
  measure_distances(&image, is_cell, distances);
  split_hills(&image, is_cell, distances, parents);
  Cell *cells;
  uint32_t count = number_cells(run, &image, parents, labels, &cells, path);
  snprintf(stem, sizeof stem, "%s", relative);
  *strrchr(stem, '.') = 0;
  join(path, sizeof path, run->outputs, stem, ".csv");
  write_table(path, cells, count);
  join(path, sizeof path, run->outputs, stem, ".labels.pgm");
  write_labels(path, &image, labels);
  printf("%s: %u x %u pixels, %u cells\n", relative, image.width, image.height, count);
  run->images++;
  void *all[] = {cells, parents, distances, is_cell, labels, values, image.signal};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static int compare_names(const void *left, const void *right) {
  return strcmp(*(char *const *)left, *(char *const *)right);
}

// Names in a folder, sorted bytewise: no two hosts need to list them in the same order.
static char **list_names(const char *folder, size_t *count) {
  DIR *directory = opendir(folder);
  if (!directory) fail(EXIT_INPUT, "%s: %s", folder, strerror(errno));
  char **names = NULL;
  *count = 0;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    names = realloc(names, (*count + 1) * sizeof *names);
    if (!names || !(names[(*count)++] = strdup(entry->d_name))) fail(EXIT_INPUT, "%s: too many files", folder);
  }
  closedir(directory);
  if (*count) qsort(names, *count, sizeof *names, compare_names);
  return names;
}

static int is_image(const char *name) {
  size_t length = strlen(name);
  return length > 4 && (strcmp(name + length - 4, ".pgm") == 0 || strcmp(name + length - 4, ".ppm") == 0);
}

// Counts the cells of all images in a folder and those below it, which is told relative to the inputs ("" is itself).
static void walk(Run *run, const char *relative, int depth) {
  char path[1024], child[1024];
  join(path, sizeof path, run->inputs, relative, "");
  size_t count;
  char **names = list_names(path, &count);
  for (size_t i = 0; i < count; i++) {
    struct stat status;
    if (*relative)
      join(child, sizeof child, relative, names[i], "");
    else
      join(child, sizeof child, names[i], "", "");
    join(path, sizeof path, run->inputs, child, "");
    if (stat(path, &status) != 0) fail(EXIT_INPUT, "%s: %s", path, strerror(errno));
    if (S_ISDIR(status.st_mode)) {
      if (depth == MAX_DEPTH) fail(EXIT_INPUT, "%s: deeper than %d folders", path, MAX_DEPTH);
      join(path, sizeof path, run->outputs, child, "");
      if (mkdir(path, 0777) != 0 && errno != EEXIST) fail(EXIT_OUTPUT, "%s: %s", path, strerror(errno));
      walk(run, child, depth + 1);
    } else if (is_image(names[i])) {
      count_cells(run, child);
    }
    free(names[i]);
  }
  free(names);
}

int main(int argc, char **argv) {
  Run run = {.min_area = 30, .inputs = "/inputs", .outputs = "/outputs"};
  int at = 1;
  for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
    if (strcmp(argv[at], "--dark") == 0) {
      run.is_dark = 1;
    } else if (strcmp(argv[at], "--min-area") == 0 && at + 1 < argc) {
      char *end;
      unsigned long area = strtoul(argv[++at], &end, 10);
      if (*end || end == argv[at] || area < 1 || area > MAX_PIXELS)
        fail(EXIT_USAGE, "--min-area %s is not a number of pixels from 1 to %u", argv[at], MAX_PIXELS);
      run.min_area = (uint32_t)area;
    } else {
      fail(EXIT_USAGE, "usage: cell-counting [--dark] [--min-area PIXELS] [INPUTS [OUTPUTS]]");
    }
  }
  if (argc - at > 2) fail(EXIT_USAGE, "usage: cell-counting [--dark] [--min-area PIXELS] [INPUTS [OUTPUTS]]");
  if (at < argc) run.inputs = argv[at++];
  if (at < argc) run.outputs = argv[at];
  walk(&run, "", 0);
  if (run.images == 0) fail(EXIT_INPUT, "%s holds no .pgm and no .ppm file", run.inputs);
  return 0;
}
