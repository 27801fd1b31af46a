//! Crash-safe copies of workspaces, environments and home directories onto shared volumes.
