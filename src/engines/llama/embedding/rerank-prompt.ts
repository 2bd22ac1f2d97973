import type { NativeModel, Vocabulary } from "../native/native-model.ts";

/** Tokens of a query and a document, as a model that ranks wants the pair. */
export type PairEncoder = (query: string, document: string) => number[];

/** By the model's own template, or else in llama.cpp's layout: [begin] query [end] [separator] document [end]. */
export function createPairEncoder(model: NativeModel): PairEncoder {
  const { vocabulary, rerankTemplate } = model;
  if (rerankTemplate === null) return (query, document) => sideBySide(vocabulary, query, document);
  return (query, document) => inTemplate(vocabulary, rerankTemplate, { query, document });
}

function sideBySide(vocabulary: Vocabulary, query: string, document: string): number[] {
  const { addsBos, bos, separator, marks } = vocabulary;
  const eos = vocabulary.has(vocabulary.eos) ? vocabulary.eos : separator;
  const mark = (wanted: boolean, token: number): number[] => (wanted && vocabulary.has(token) ? [token] : []);
  const plain = (text: string): number[] => vocabulary.tokenize(text, { addSpecial: false, parseSpecial: false });
  return [
    ...mark(addsBos, bos),
    ...plain(query),
    ...mark(marks.end, eos),
    ...mark(marks.separator, separator),
    ...plain(document),
    ...mark(marks.end, eos),
  ];
}

/**
 * As one text, for words at the seams make other tokens on their own. But a text that writes out control tokens could
 * say "yes" in the model's place: then its parts are cut from the template's, and none of its marks counts.
 */
function inTemplate(
  vocabulary: Vocabulary,
  template: string,
  values: Readonly<Record<"query" | "document", string>>,
): number[] {
  const parts = template.split(/(\{query\}|\{document\})/);
  const valueOf = (part: string): string | undefined =>
    part === "{query}" ? values.query : part === "{document}" ? values.document : undefined;
  const parse = (text: string, parseSpecial: boolean): number[] =>
    vocabulary.tokenize(text, { addSpecial: false, parseSpecial });
  const tainted = Object.values(values).some((text) => parse(text, true).some((token) => vocabulary.isControl(token)));
  if (!tainted) return parse(parts.map((part) => valueOf(part) ?? part).join(""), true);
  return parts.flatMap((part) => {
    const value = valueOf(part);
    return value === undefined ? parse(part, true) : parse(value, false);
  });
}
