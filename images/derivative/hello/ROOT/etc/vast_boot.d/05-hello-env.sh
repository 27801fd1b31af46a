#!/bin/bash
# Sourced at boot: what is exported here reaches all later stages and Supervisor's programs.
export HELLO_GREETING="${HELLO_GREETING:-Hello from Vast.ai}"
export PORTAL_CONFIG="${PORTAL_CONFIG:-localhost:1111:11111:/:Instance Portal|localhost:7860:17860:/:Hello|localhost:8080:18080:/:Jupyter}"
