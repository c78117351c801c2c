"""Words: text encoders, prompt templates, vocabularies and their class embeddings."""
