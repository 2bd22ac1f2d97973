/** A word for POSIX shells: as it is where nothing in it means anything to them, else in the quotes that it does not hold. */
export function quoteForSh(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  return word.includes("'") && !/["$`\\!]/.test(word) ? `"${word}"` : `'${word.replaceAll("'", "'\\''")}'`;
}

/** A text for PowerShell, in single quotes; it takes typographic ones for the same (about_Quoting_Rules). */
export function quoteForPowerShell(text: string): string {
  return `'${text.replace(/['\u2018-\u201b]/g, "$&$&")}'`;
}

/** A word for PowerShell's command line of another program. Without double quotes in it: before 7.3 PowerShell loses them. */
export function quoteArgumentForPowerShell(word: string): string {
  return /^[\w%+=:./\\][\w%+=:./\\-]*$|^--?[A-Za-z][\w-]*$/.test(word) ? word : quoteForPowerShell(word);
}

/** A word by the rules of `CommandLineToArgvW`, always in double quotes: backslashes count double before a quote. */
export function quoteForWindows(word: string): string {
  return `"${word.replace(/(\\*)"/g, '$1$1\\"').replace(/(\\*)$/, "$1$1")}"`;
}

/** A text for cmd.exe outside of quotes: everything that means something to it, quotes too, is escaped. */
export function escapeForBatch(text: string): string {
  return text.replace(/[()\][%!^"`<>&|;, *?]/g, "^$&");
}

/** An argument of a batch file behind `cmd.exe /d /s /c`, which reads it twice: on its own command line, and in the file's `%*`. */
export function quoteForBatch(word: string): string {
  return escapeForBatch(escapeForBatch(quoteForWindows(word)));
}
