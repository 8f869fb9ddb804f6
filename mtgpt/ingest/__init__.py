"""Raw feeds in, contract tables out: manifests, guarded pulls, safe archives, one adapter per feed family."""
