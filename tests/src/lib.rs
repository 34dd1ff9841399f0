//! Integration tests over all rooms.
