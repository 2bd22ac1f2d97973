"""The recipe of the bundled demo model: corpus, tokenizer, training, export. See ../README.md."""
