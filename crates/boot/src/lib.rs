//! The boot sequence of a Vast.ai container: stages, environment, supervision and journal.
