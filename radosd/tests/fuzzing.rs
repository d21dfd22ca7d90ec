//! The fuzz targets of the decoders, with their stored corpus.

fuzzing::tests!(radosd::fuzz::TARGETS);
