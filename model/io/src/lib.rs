//! Point clouds, weights and samples: reading real files.
