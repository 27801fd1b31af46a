//! `PORTAL_CONFIG`: the string, the model and /etc/portal.yaml of the Vast.ai Instance Portal.
