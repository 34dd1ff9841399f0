//! ENEL as a graph builder, and generation around it.
