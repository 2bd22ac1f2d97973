import { charge, TemplateError } from "./budget.ts";
import {
  type Arguments,
  bindArguments,
  compare,
  isEqual,
  toInteger,
  toItems,
  toKey,
  Tuple,
  type Value,
} from "./values.ts";

type DictMethod = (self: Map<Value, Value>, given: Arguments) => Value;
type ListMethod = (self: Value[], given: Arguments) => Value;

/** Python's methods of a dict. */
export const dictMethods = new Map<string, DictMethod>([
  ["items", (self) => (charge(self.size), Array.from(self, (entry) => Tuple.fromItems(entry)))],
  ["keys", (self) => (charge(self.size), [...self.keys()])],
  ["values", (self) => (charge(self.size), [...self.values()])],
  ["copy", (self) => (charge(self.size), new Map(self))],
  [
    "get",
    (self, given) => {
      const [key, fallback = null] = bindArguments("get", given, ["key", "default"]);
      const plain = toKey(key);
      return self.has(plain) ? self.get(plain) : fallback;
    },
  ],
  [
    "pop",
    (self, given) => {
      const key = toKey(given.positional[0]);
      const found = self.get(key);
      if (!self.delete(key) && given.positional.length < 2) throw new TemplateError("pop: there is no such key");
      return found ?? given.positional[1];
    },
  ],
  [
    "update",
    (self, { positional: [other], named }) => {
      if (other instanceof Map) for (const [key, value] of other) self.set(key, value);
      for (const [name, value] of named) self.set(name, value);
      charge(self.size);
      return null;
    },
  ],
  [
    "setdefault",
    (self, given) => {
      const [key, value = null] = bindArguments("setdefault", given, ["key", "default"]);
      const plain = toKey(key);
      if (!self.has(plain)) self.set(plain, value);
      return self.get(plain);
    },
  ],
]);

/** Python's methods of a list. Some templates (Kimi K2) change lists, which transformers' sandbox forbids. */
export const listMethods = new Map<string, ListMethod>([
  ["append", (self, { positional: [item] }) => (charge(1), self.push(item), null)],
  [
    "extend",
    (self, { positional: [items] }) => {
      const added = [...toItems(items)];
      charge(added.length);
      for (const item of added) self.push(item);
      return null;
    },
  ],
  [
    "insert",
    (self, { positional: [index, item] }) => {
      charge(self.length);
      self.splice(toInteger(index, "an index"), 0, item);
      return null;
    },
  ],
  [
    "pop",
    (self, { positional: [index = -1] }) => {
      const at = toInteger(index, "an index");
      const from = at < 0 ? at + self.length : at;
      if (from < 0 || from >= self.length) throw new TemplateError("pop: the list has no such item");
      charge(self.length - from);
      return self.splice(from, 1)[0];
    },
  ],
  ["reverse", (self) => (charge(self.length), self.reverse(), null)],
  ["sort", (self) => (charge(self.length), self.sort(compare), null)],
  ["copy", (self) => (charge(self.length), Array.from(self))],
  [
    "count",
    (self, { positional: [item] }) => (charge(self.length), self.filter((entry) => isEqual(entry, item)).length),
  ],
  [
    "index",
    (self, { positional: [item] }) => {
      charge(self.length);
      const at = self.findIndex((entry) => isEqual(entry, item));
      if (at < 0) throw new TemplateError("index: the list has no such item");
      return at;
    },
  ],
]);
