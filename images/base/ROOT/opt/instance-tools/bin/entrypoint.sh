#!/bin/sh
# The ENTRYPOINT of the image family. vast-boot does the work; deployed lines name this file.
exec /opt/instance-tools/bin/vast-boot run "$@"
