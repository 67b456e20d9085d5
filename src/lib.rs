//! Attar.
