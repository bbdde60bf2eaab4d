// Cloud mask of a Landsat 8 scene, after the tests of Fmask (Zhu and Woodcock 2012; Zhu, Wang and Woodcock 2015).
//
// Reads PREFIX_B2 … PREFIX_B7, PREFIX_B9, PREFIX_B10 (.tif or .TIF: uncompressed little-endian uint16 in strips) and
// PREFIX_MTL.txt from the input directory; the prefix is that of the first *_MTL.txt in bytewise order. Without any, the
// first *.tif or *.TIF has to be a scene in one file: these eight bands, in this order, as planes of a TIFF whose image
// description is the text of the metadata.
// Writes cloudmask.pgm (255 is cloud) and stats.json to the output directory, and one line to standard output.
//
// usage: cloud-detection [INPUTS [OUTPUTS]]     by default /inputs and /outputs
//
// It uses libc only, one thread, and no clock or randomness: the same input gives the same bytes.

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLUE, GREEN, RED, NIR, SWIR1, SWIR2, CIRRUS, THERMAL, BANDS };
static const int BAND_NUMBER[BANDS] = {2, 3, 4, 5, 6, 7, 9, 10};

enum { EXIT_USAGE = 2, EXIT_INPUT = 3, EXIT_OUTPUT = 4 };

// Fmask's constants, but for two that fit the high-confidence clouds of Landsat's own quality band better than its
// plain 0.08 for haze: a cloud is clearly above the haze line, or only just while the cirrus band is bright.
#define HAZE_LINE 0.08
#define CLOUD_ABOVE_HAZE 0.012
#define CIRRUS_ABOVE_HAZE 0.004
#define CIRRUS_LIMIT 0.03
#define PERCENTILE 0.825

#define MAX_SIDE 32768u
#define MAX_PIXELS (64u << 20)

typedef struct {
  uint32_t width, height;
  uint16_t *pixels;
} Band;

typedef struct {
  double mult[THERMAL], add[THERMAL];          // digital number to reflectance, before the sun's elevation
  double radiance_mult, radiance_add, k1, k2;  // digital number to kelvin, for the thermal band
  double sun;                                  // sine of the sun's elevation
  char scene[64];
} Calibration;

static void fail(int code, const char *format, ...) {
  va_list args;
  va_start(args, format);
  fputs("cloud-detection: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
  exit(code);
}

static void *allocate(size_t size) {
  void *memory = malloc(size ? size : 1);
  if (!memory) fail(EXIT_INPUT, "out of memory for %zu bytes: the scene is too large for the job's memory limit", size);
  return memory;
}

// The whole file, with a zero byte after it; its length in *size. NULL if it cannot be opened.
static uint8_t *read_file(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (!file) return NULL;
  setvbuf(file, NULL, _IONBF, 0);
  if (fseek(file, 0, SEEK_END) != 0) fail(EXIT_INPUT, "%s: %s", path, strerror(errno));
  long length = ftell(file);
  if (length < 0 || length > 0x7ffffff0L) fail(EXIT_INPUT, "%s: too large, or not a file", path);
  rewind(file);
  uint8_t *data = allocate((size_t)length + 1);
  *size = fread(data, 1, (size_t)length, file);
  if (*size != (size_t)length) fail(EXIT_INPUT, "%s: read %zu of %ld bytes", path, *size, length);
  data[*size] = 0;
  fclose(file);
  return data;
}

// TIFF ---------------------------------------------------------------------------------------------------------------

#define DESCRIPTION 270

typedef struct {
  const char *path;
  const uint8_t *data;
  size_t size;
} Tiff;

static uint32_t read_uint(const Tiff *tiff, uint64_t offset, int bytes) {
  if (offset + (uint64_t)bytes > tiff->size) fail(EXIT_INPUT, "%s: a TIFF field lies outside the file", tiff->path);
  uint32_t value = 0;
  for (int i = bytes - 1; i >= 0; i--) value = value << 8 | tiff->data[offset + (uint64_t)i];
  return value;
}

typedef struct {
  int found, bytes;  // bytes of one value: 2 or 4
  uint32_t count;
  uint64_t offset;  // where the values are
} Field;

static Field find_field(const Tiff *tiff, uint32_t tag) {
  Field field = {0};
  uint32_t directory = read_uint(tiff, 4, 4);
  uint32_t entries = read_uint(tiff, directory, 2);
  for (uint32_t i = 0; i < entries; i++) {
    uint64_t entry = (uint64_t)directory + 2 + 12ull * i;
    if (read_uint(tiff, entry, 2) != tag) continue;
    uint32_t type = read_uint(tiff, entry + 2, 2);
    if (tag == DESCRIPTION ? type != 2 : type != 3 && type != 4)
      fail(EXIT_INPUT, "%s: TIFF tag %u has type %u, not %s", tiff->path, tag, type,
           tag == DESCRIPTION ? "ASCII" : "SHORT or LONG");
    field.found = 1;
    field.bytes = type == 2 ? 1 : type == 3 ? 2 : 4;
    field.count = read_uint(tiff, entry + 4, 4);
    uint64_t length = (uint64_t)field.count * (uint64_t)field.bytes;
    field.offset = length <= 4 ? entry + 8 : read_uint(tiff, entry + 8, 4);
    if (field.count == 0 || field.offset + length > tiff->size)
      fail(EXIT_INPUT, "%s: the values of TIFF tag %u lie outside the file", tiff->path, tag);
    return field;
  }
  return field;
}

static uint32_t value_at(const Tiff *tiff, const Field *field, uint32_t index) {
  return read_uint(tiff, field->offset + (uint64_t)index * (uint64_t)field->bytes, field->bytes);
}

static uint32_t single_value(const Tiff *tiff, uint32_t tag, const char *name, uint32_t fallback) {
  Field field = find_field(tiff, tag);
  if (!field.found && fallback == UINT32_MAX) fail(EXIT_INPUT, "%s: the TIFF has no %s", tiff->path, name);
  return field.found ? value_at(tiff, &field, 0) : fallback;
}

// Whether all values of a field that there is one of for each band are `wanted`; `fallback` where it is left out.
static int is_all(const Tiff *tiff, uint32_t tag, uint32_t wanted, uint32_t fallback) {
  Field field = find_field(tiff, tag);
  for (uint32_t i = 0; i < field.count; i++)
    if (value_at(tiff, &field, i) != wanted) return 0;
  return field.found || fallback == wanted;
}

static void check_format(const Tiff *tiff, uint32_t planes) {
  if (tiff->size < 8 || memcmp(tiff->data, "II*\0", 4) != 0) fail(EXIT_INPUT, "%s: not a little-endian TIFF", tiff->path);
  if (find_field(tiff, 322).found) fail(EXIT_INPUT, "%s: a tiled TIFF; write it in strips", tiff->path);
  if (!is_all(tiff, 258, 16, 1)) fail(EXIT_INPUT, "%s: samples are not of 16 bits", tiff->path);
  if (single_value(tiff, 259, "compression", 1) != 1) fail(EXIT_INPUT, "%s: compressed; write it uncompressed", tiff->path);
  uint32_t samples = single_value(tiff, 277, "samples per pixel", 1);
  if (samples != planes && planes == 1) fail(EXIT_INPUT, "%s: more than one sample a pixel", tiff->path);
  if (samples != planes)
    fail(EXIT_INPUT, "%s: %u samples a pixel, and no *_MTL.txt beside it: give a scene's folder, or one TIFF of %u bands",
         tiff->path, samples, planes);
  if (planes > 1 && single_value(tiff, 284, "planar configuration", 1) != 2)
    fail(EXIT_INPUT, "%s: bands are interleaved; write them as planes", tiff->path);
  if (!is_all(tiff, 339, 1, 1)) fail(EXIT_INPUT, "%s: samples are not unsigned integers", tiff->path);
}

static Tiff read_tiff(const char *path, uint32_t planes) {
  Tiff tiff = {path, NULL, 0};
  tiff.data = read_file(path, &tiff.size);
  if (!tiff.data) fail(EXIT_INPUT, "%s: %s", path, strerror(errno));
  check_format(&tiff, planes);
  return tiff;
}

static Band read_plane(const Tiff *tiff, uint32_t plane) {
  const char *path = tiff->path;
  Band band = {single_value(tiff, 256, "width", UINT32_MAX), single_value(tiff, 257, "height", UINT32_MAX), NULL};
  if (band.width == 0 || band.height == 0 || band.width > MAX_SIDE || band.height > MAX_SIDE ||
      (uint64_t)band.width * band.height > MAX_PIXELS)
    fail(EXIT_INPUT, "%s: %u x %u pixels; at most %u pixels are supported", path, band.width, band.height, MAX_PIXELS);
  uint32_t rows = single_value(tiff, 278, "rows per strip", band.height);
  Field offsets = find_field(tiff, 273), counts = find_field(tiff, 279);
  if (rows == 0 || !offsets.found || !counts.found) fail(EXIT_INPUT, "%s: the TIFF has no strips", path);
  uint32_t strips = (uint32_t)(((uint64_t)band.height + rows - 1) / rows), before = plane * strips;
  if (offsets.count < before + strips || counts.count < before + strips) fail(EXIT_INPUT, "%s: the TIFF lacks strips", path);
  size_t row_bytes = (size_t)band.width * 2;
  band.pixels = allocate(row_bytes * band.height);
  for (uint32_t strip = 0; strip < strips; strip++) {
    uint32_t first = strip * rows, count = band.height - first < rows ? band.height - first : rows;
    uint64_t start = value_at(tiff, &offsets, before + strip), length = (uint64_t)count * row_bytes;
    if (value_at(tiff, &counts, before + strip) < length || start + length > tiff->size)
      fail(EXIT_INPUT, "%s: strip %u is cut off", path, before + strip);
    memcpy((uint8_t *)band.pixels + first * row_bytes, tiff->data + start, length);  // hosts of WASM are little-endian
  }
  return band;
}

static Band read_band(const char *path) {
  Tiff tiff = read_tiff(path, 1);
  Band band = read_plane(&tiff, 0);
  free((void *)tiff.data);
  return band;
}

// Metadata -----------------------------------------------------------------------------------------------------------

// The text after `key =`, or NULL.
static const char *find_text(const char *metadata, const char *key) {
  size_t length = strlen(key);
  for (const char *at = metadata; (at = strstr(at, key)) != NULL; at += length) {
    int starts = at == metadata || at[-1] == ' ' || at[-1] == '\n' || at[-1] == '\t';
    const char *rest = at + length;
    while (*rest == ' ') rest++;
    if (starts && *rest == '=') return rest + 1;
  }
  return NULL;
}

static double find_number(const char *metadata, const char *path, const char *key) {
  const char *text = find_text(metadata, key);
  if (!text) fail(EXIT_INPUT, "%s lacks %s", path, key);
  char *end;
  double value = strtod(text, &end);
  if (end == text || !isfinite(value)) fail(EXIT_INPUT, "%s: %s is not a number", path, key);
  return value;
}

static Calibration read_calibration(const char *path, const char *text) {
  Calibration c = {0};
  char key[64];
  for (int band = 0; band < THERMAL; band++) {
    snprintf(key, sizeof key, "REFLECTANCE_MULT_BAND_%d", BAND_NUMBER[band]);
    c.mult[band] = find_number(text, path, key);
    snprintf(key, sizeof key, "REFLECTANCE_ADD_BAND_%d", BAND_NUMBER[band]);
    c.add[band] = find_number(text, path, key);
  }
  c.radiance_mult = find_number(text, path, "RADIANCE_MULT_BAND_10");
  c.radiance_add = find_number(text, path, "RADIANCE_ADD_BAND_10");
  c.k1 = find_number(text, path, "K1_CONSTANT_BAND_10");
  c.k2 = find_number(text, path, "K2_CONSTANT_BAND_10");
  double elevation = find_number(text, path, "SUN_ELEVATION");
  if (elevation <= 0 || elevation > 90) fail(EXIT_INPUT, "%s: SUN_ELEVATION %g is not that of a day scene", path, elevation);
  if (c.k1 <= 0 || c.k2 <= 0) fail(EXIT_INPUT, "%s: the thermal constants are not positive", path);
  c.sun = sin(elevation * 3.14159265358979323846 / 180);
  const char *scene = find_text(text, "LANDSAT_SCENE_ID");
  size_t length = 0;
  for (const char *at = scene ? scene : ""; *at && *at != '\n' && length + 1 < sizeof c.scene; at++) {
    int is_plain = (*at >= '0' && *at <= '9') || (*at >= 'A' && *at <= 'Z') || (*at >= 'a' && *at <= 'z') || *at == '_';
    if (is_plain) c.scene[length++] = *at;
  }
  return c;
}

// Clouds -------------------------------------------------------------------------------------------------------------

// What the later tests need of a pixel. Temperatures in degrees Celsius, reflectances as fractions.
typedef struct {
  float temperature, variability, swir1, haze;
  uint8_t is_valid, is_candidate, is_water, is_cirrus, is_dark;
} Pixel;

static double largest(double a, double b) { return a > b ? a : b; }

static double index_of(double a, double b) { return a + b > 1e-6 ? (a - b) / (a + b) : 0; }

static Pixel classify(const Calibration *c, const Band *bands, size_t at) {
  Pixel pixel = {0};
  double r[THERMAL];
  for (int band = 0; band < BANDS; band++)
    if (bands[band].pixels[at] == 0) return pixel;  // outside the swath
  for (int band = 0; band < THERMAL; band++) r[band] = (c->mult[band] * bands[band].pixels[at] + c->add[band]) / c->sun;
  double radiance = c->radiance_mult * bands[THERMAL].pixels[at] + c->radiance_add;
  if (radiance <= 0) return pixel;
  double temperature = c->k2 / log(c->k1 / radiance + 1) - 273.15;
  double snow = index_of(r[GREEN], r[SWIR1]), vegetation = index_of(r[NIR], r[RED]);
  double mean = (r[BLUE] + r[GREEN] + r[RED]) / 3;
  double whiteness =
      mean > 1e-6 ? (fabs(r[BLUE] - mean) + fabs(r[GREEN] - mean) + fabs(r[RED] - mean)) / mean : 1;
  int is_cold_and_bright = r[SWIR2] > 0.03 && temperature < 27 && snow < 0.8 && vegetation < 0.8;
  int is_white = whiteness < 0.7;
  double haze = r[BLUE] - 0.5 * r[RED] - HAZE_LINE;
  int is_no_rock = r[NIR] > 0.75 * r[SWIR1];
  pixel.is_valid = 1;
  pixel.is_candidate = is_cold_and_bright && is_white && haze > 0 && is_no_rock;
  pixel.is_water = (vegetation < 0.01 && r[NIR] < 0.11) || (vegetation > 0 && vegetation < 0.1 && r[NIR] < 0.05);
  pixel.is_cirrus = r[CIRRUS] > CIRRUS_LIMIT;
  pixel.is_dark = r[SWIR2] < 0.03;
  pixel.temperature = (float)temperature;
  pixel.variability = (float)(1 - largest(largest(fabs(vegetation), fabs(snow)), whiteness));
  pixel.swir1 = (float)r[SWIR1];
  pixel.haze = (float)haze;
  return pixel;
}

// Percentiles by counting: the same on every machine and in one pass.
#define BINS 4096

typedef struct {
  double low, high;
  uint64_t total;
  uint32_t bins[BINS];
} Histogram;

static void count(Histogram *h, double value) {
  double place = (value - h->low) / (h->high - h->low) * BINS;
  h->bins[place < 0 ? 0 : place >= BINS ? BINS - 1 : (int)place]++;
  h->total++;
}

static double percentile(const Histogram *h, double share) {
  uint64_t wanted = (uint64_t)(share * (double)h->total), seen = 0;
  int bin = 0;
  while (bin < BINS - 1 && (seen += h->bins[bin]) <= wanted) bin++;
  return h->low + (bin + 0.5) * (h->high - h->low) / BINS;
}

typedef struct {
  double warm, cold, water, land_limit;  // degrees Celsius; least probability over land
  int is_known;                          // whether there is enough clear ground to compare with
} Ground;

static double land_probability(const Ground *ground, const Pixel *p) {
  double warm = ground->warm + 4, cold = ground->cold - 4;
  return (warm - p->temperature) / (warm - cold) * p->variability;
}

static Ground survey(const Pixel *pixels, size_t total) {
  static Histogram land, water, chance;
  land = water = (Histogram){-100, 100, 0, {0}};
  chance = (Histogram){-2, 2, 0, {0}};
  for (size_t i = 0; i < total; i++) {
    const Pixel *p = &pixels[i];
    if (!p->is_valid || p->is_candidate) continue;
    if (!p->is_water) count(&land, p->temperature);
    if (p->is_water && p->is_dark) count(&water, p->temperature);
  }
  Ground ground = {percentile(&land, PERCENTILE), percentile(&land, 1 - PERCENTILE), 0, 0, land.total * 1000 >= total};
  ground.water = water.total * 1000 >= total ? percentile(&water, PERCENTILE) : ground.warm;
  for (size_t i = 0; i < total; i++)
    if (pixels[i].is_valid && !pixels[i].is_candidate && !pixels[i].is_water)
      count(&chance, land_probability(&ground, &pixels[i]));
  ground.land_limit = percentile(&chance, PERCENTILE);
  return ground;
}

static int is_cloud(const Ground *ground, const Pixel *p) {
  if (!p->is_valid || !p->is_candidate) return 0;
  if (p->is_cirrus && p->haze > CIRRUS_ABOVE_HAZE) return 1;
  if (p->haze <= CLOUD_ABOVE_HAZE) return 0;
  if (!ground->is_known) return 1;
  if (!p->is_water) return land_probability(ground, p) > ground->land_limit;
  double brightness = (p->swir1 < 0.11 ? p->swir1 : 0.11) / 0.11;
  return (ground->water - p->temperature) / 4 * brightness > 0.5;
}

// Files --------------------------------------------------------------------------------------------------------------

static int ends_with(const char *name, const char *suffix) {
  size_t length = strlen(name), tail = strlen(suffix);
  return length > tail && strcmp(name + length - tail, suffix) == 0;
}

// The first name in bytewise order with one of two endings; 0 where there is none.
static int find_first(const char *folder, const char *suffix, const char *other, char *name, size_t size) {
  DIR *directory = opendir(folder);
  if (!directory) fail(EXIT_INPUT, "%s: %s", folder, strerror(errno));
  int found = 0;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (strlen(entry->d_name) >= size || (!ends_with(entry->d_name, suffix) && !ends_with(entry->d_name, other))) continue;
    if (!found || strcmp(entry->d_name, name) < 0) strcpy(name, entry->d_name);
    found = 1;
  }
  closedir(directory);
  return found;
}

static Band read_named_band(const char *folder, const char *prefix, int number) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s_B%d.TIF", folder, prefix, number);
  FILE *file = fopen(path, "rb");
  if (file)
    fclose(file);
  else
    snprintf(path, sizeof path, "%s/%s_B%d.tif", folder, prefix, number);
  return read_band(path);
}

typedef struct {
  Calibration calibration;
  Band bands[BANDS];
} Scene;

static Scene read_stack(const char *path) {
  Scene scene;
  Tiff tiff = read_tiff(path, BANDS);
  Field text = find_field(&tiff, DESCRIPTION);
  if (!text.found || tiff.data[text.offset + text.count - 1] != 0)
    fail(EXIT_INPUT, "%s has no image description with the scene's metadata, or one without its end", path);
  scene.calibration = read_calibration(path, (const char *)tiff.data + text.offset);
  for (uint32_t band = 0; band < BANDS; band++) scene.bands[band] = read_plane(&tiff, band);
  free((void *)tiff.data);
  return scene;
}

static Scene read_scene(const char *folder) {
  static const char SUFFIX[] = "_MTL.txt";
  char name[256], path[1024];
  int is_folder = find_first(folder, SUFFIX, SUFFIX, name, sizeof name);
  if (!is_folder && !find_first(folder, ".tif", ".TIF", name, sizeof name))
    fail(EXIT_INPUT, "%s holds no *_MTL.txt and no *.tif: give the folder of a Landsat 8 scene as input", folder);
  snprintf(path, sizeof path, "%s/%s", folder, name);
  if (!is_folder) return read_stack(path);
  Scene scene;
  size_t size;
  uint8_t *text = read_file(path, &size);
  if (!text) fail(EXIT_INPUT, "%s: %s", path, strerror(errno));
  scene.calibration = read_calibration(path, (const char *)text);
  free(text);
  name[strlen(name) - sizeof SUFFIX + 1] = 0;
  for (int band = 0; band < BANDS; band++) scene.bands[band] = read_named_band(folder, name, BAND_NUMBER[band]);
  return scene;
}

static void write_file(const char *folder, const char *name, const void *head, size_t head_size, const void *body,
                       size_t body_size) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "wb");
  if (!file) fail(EXIT_OUTPUT, "%s: %s", path, strerror(errno));
  setvbuf(file, NULL, _IONBF, 0);
  int is_written = fwrite(head, 1, head_size, file) == head_size && fwrite(body, 1, body_size, file) == body_size;
  if (fclose(file) != 0 || !is_written) fail(EXIT_OUTPUT, "%s: could not be written whole", path);
}

typedef struct {
  uint64_t total, valid, cloud, water, cirrus;
} Counts;

static void write_results(const char *folder, const Calibration *c, const Band *shape, const Counts *n,
                          const uint8_t *mask) {
  char text[512];
  uint64_t ppm = n->valid ? (n->cloud * 1000000 + n->valid / 2) / n->valid : 0;
  int length = snprintf(text, sizeof text, "P5\n%u %u\n255\n", shape->width, shape->height);
  write_file(folder, "cloudmask.pgm", text, (size_t)length, mask, n->total);
  length = snprintf(text, sizeof text,
                    "{\"scene\":\"%s\",\"width\":%u,\"height\":%u,\"total_pixels\":%llu,\"valid_pixels\":%llu,"
                    "\"cloud_pixels\":%llu,\"cloud_share\":%llu.%06llu,\"water_pixels\":%llu,\"cirrus_pixels\":%llu}\n",
                    c->scene, shape->width, shape->height, (unsigned long long)n->total, (unsigned long long)n->valid,
                    (unsigned long long)n->cloud, (unsigned long long)(ppm / 1000000),
                    (unsigned long long)(ppm % 1000000), (unsigned long long)n->water, (unsigned long long)n->cirrus);
  write_file(folder, "stats.json", text, (size_t)length, "", 0);
  printf("scene %s: %u x %u pixels, %llu valid, %llu cloud (%llu.%02llu %%)\n", c->scene[0] ? c->scene : "unnamed",
         shape->width, shape->height, (unsigned long long)n->valid, (unsigned long long)n->cloud,
         (unsigned long long)(ppm / 10000), (unsigned long long)(ppm / 100 % 100));
}

int main(int argc, char **argv) {
  if (argc > 3) fail(EXIT_USAGE, "usage: cloud-detection [INPUTS [OUTPUTS]]");
  const char *inputs = argc > 1 ? argv[1] : "/inputs", *outputs = argc > 2 ? argv[2] : "/outputs";
  Scene scene = read_scene(inputs);
  const Calibration calibration = scene.calibration;
  const Band *bands = scene.bands;
  for (int band = 0; band < BANDS; band++) {
    if (bands[band].width != bands[0].width || bands[band].height != bands[0].height)
      fail(EXIT_INPUT, "band %d has %u x %u pixels, band %d has %u x %u: bands of one scene must agree",
           BAND_NUMBER[band], bands[band].width, bands[band].height, BAND_NUMBER[0], bands[0].width, bands[0].height);
  }
  Counts counts = {.total = (uint64_t)bands[0].width * bands[0].height};
  Pixel *pixels = allocate(counts.total * sizeof *pixels);
  for (size_t i = 0; i < counts.total; i++) pixels[i] = classify(&calibration, bands, i);
  Ground ground = survey(pixels, counts.total);
  uint8_t *mask = allocate(counts.total);
  for (size_t i = 0; i < counts.total; i++) {
    mask[i] = is_cloud(&ground, &pixels[i]) ? 255 : 0;
    counts.valid += pixels[i].is_valid;
    counts.cloud += mask[i] != 0;
    counts.water += pixels[i].is_valid && pixels[i].is_water;
    counts.cirrus += pixels[i].is_valid && pixels[i].is_cirrus;
  }
  if (counts.valid == 0) fail(EXIT_INPUT, "the scene has no valid pixel");
  write_results(outputs, &calibration, &bands[0], &counts, mask);
  return 0;
}
