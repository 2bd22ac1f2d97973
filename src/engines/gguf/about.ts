import type { MetadataValue } from "./gguf-reader.ts";

/** What a model's maker says of it, in the keys `general.…` of its file. */
export interface GgufAbout {
  readonly description?: string;
  /** e.g. `apache-2.0` */
  readonly license?: string;
  /** e.g. `8B` */
  readonly sizeLabel?: string;
  /** e.g. `en`, `zh` */
  readonly languages?: readonly string[];
}

/** Characters of a description, and of the other words: every list of models carries them. */
const longestDescription = 1000;
const longestWord = 100;
const mostLanguages = 64;

/** Reads it; what is missing, empty, of another kind or beyond all reason is left out. */
export function readAbout(general: (key: string) => MetadataValue | undefined): GgufAbout {
  const text = (key: string, longest: number): string | undefined => {
    const value = general(key);
    const words = typeof value === "string" ? value.trim() : "";
    return words === "" || words.length > longest ? undefined : words;
  };
  const description = text("description", longestDescription);
  const license = text("license", longestWord);
  const sizeLabel = text("size_label", longestWord);
  const languages = readLanguages(general("languages"));
  return {
    ...(description === undefined ? {} : { description }),
    ...(license === undefined ? {} : { license }),
    ...(sizeLabel === undefined ? {} : { sizeLabel }),
    ...(languages.length === 0 ? {} : { languages }),
  };
}

function readLanguages(value: MetadataValue | undefined): readonly string[] {
  const texts = typeof value === "object" && value !== null ? value.texts : [];
  const fit = texts.every((text) => text !== "" && text.length <= longestWord);
  return fit && texts.length <= mostLanguages ? texts : [];
}
