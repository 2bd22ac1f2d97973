import { describe, expect, it } from "vitest";
import { compareHeader } from "../../scripts/compare-llama-header.ts";
import { readHeader } from "../../scripts/llama-header.ts";

// Every form of declaration that llama.cpp's headers have, in names of our own.
const text = `
#define FLAG_PART 1
#define MOST_CORES 512
typedef int32_t word;
typedef bool (*heard)(float share, void * listener); // a callback
struct animal;
typedef struct animal * animal_t;
enum colour {
    COLOUR_AUTO = -1, /* the default */
    COLOUR_RED,
    COLOUR_BLUE = 1 << 3,
};
struct feeding {
    animal_t   who; // whom
    enum colour bowl;
    const float * shares;
    bool      mask[MOST_CORES];
    heard     callback;
    bool      at_night;
};
LLAMA_API struct animal * animal_new(const char * name, size_t weight);
LLAMA_API const char *    animal_name(const struct animal * it);
DEPRECATED(LLAMA_API void animal_feed(struct animal * it, struct feeding how, word count),
    "use something newer");
GGML_API size_t animal_words(animal_t it,
          const word * words,
               int32_t n_words);
`;

const own = {
  prototypes: {
    animal_new: "void *animal_new(const char *name, size_t weight)",
    animal_name: "const char *animal_name(void *it)",
    animal_feed: "void animal_feed(void *it, feeding how, int32_t count)",
    animal_words: "size_t animal_words(void *it, int32_t *words, int32_t n_words)",
  },
  structs: {
    feeding: {
      who: "void *",
      bowl: "int",
      shares: "void *",
      mask: "bool [512]",
      callback: "void *",
      at_night: "bool",
    },
  },
  constants: { FLAG_PART: 1, COLOUR_AUTO: -1, COLOUR_RED: 0, COLOUR_BLUE: 8 },
};

const names = (changed: string): string[] => compareHeader(own, readHeader(changed)).map(({ name }) => name);

describe("the check of a new llama.cpp's headers", () => {
  it("finds nothing where nothing has changed", () => {
    expect(names(text)).toEqual([]);
  });

  it.each([
    ["a parameter put in", "size_t weight)", "int age, size_t weight)", "animal_new"],
    ["a parameter of another size", "size_t weight)", "int32_t weight)", "animal_new"],
    ["a parameter of another meaning", "word count", "word grams", "animal_feed"],
    ["another result", "GGML_API size_t", "GGML_API int32_t", "animal_words"],
    ["numbers of another size behind a pointer", "typedef int32_t word", "typedef int64_t word", "animal_words"],
    ["a function renamed", "animal_name(", "animal_label(", "animal_name"],
    ["a field put in", "bool      at_night", "bool by_day; bool at_night", "feeding, field 6"],
    ["a field taken out", "bool      at_night;", "", "feeding, field 6"],
    ["a field of another type", "enum colour bowl", "int64_t bowl", "feeding, field 2"],
    ["a longer array", "MOST_CORES 512", "MOST_CORES 1024", "feeding, field 4"],
    ["an enum's member put in", "COLOUR_RED,", "COLOUR_GREEN, COLOUR_RED,", "COLOUR_RED"],
    ["a flag of another value", "FLAG_PART 1", "FLAG_PART 2", "FLAG_PART"],
  ])("finds %s", (_, before, after, name) => {
    expect(text).toContain(before);
    expect(names(text.replace(before, after))).toContain(name);
  });

  it("shows both declarations", () => {
    const [difference] = compareHeader(own, readHeader(text.replace("size_t weight)", "float weight)")));
    expect(difference).toEqual({
      name: "animal_new",
      ours: "void *animal_new(const char *name, size_t weight)",
      theirs: "struct animal * animal_new(const char * name, float weight)",
    });
  });
});
