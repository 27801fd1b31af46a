//! Harness of the end-to-end tests: images, namespaces and services, each removed at the end of its test.
