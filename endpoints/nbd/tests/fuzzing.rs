//! The fuzz targets of the decoders, with their stored corpus.

fuzzing::tests!(archip_nbd::fuzz::TARGETS);
