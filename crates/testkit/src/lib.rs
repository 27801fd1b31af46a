//! Development only: fake roots, a faulty registry and helpers for the tests of this workspace.
