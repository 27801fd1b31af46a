"""A second implementation of scheme 1, for the test vectors.

It shares nothing with the Rust one: metadata is read by the standard library, packages and components by this text.
Prints how many vectors it checked; fails at the first that does not fit.
"""

import email
import hashlib
import json
import sys
import textwrap


def h12(text):
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def by_bytes(lines):
    return sorted(lines, key=str.encode)


def system(environment):
    release = by_bytes(environment["release"])
    return "\n".join([environment["platform"], environment["machine"], *(release or [""])]) + "\n"


def apt(environment):
    return "".join(line + "\n" for line in by_bytes("=".join(package) for package in environment["apt"]))


def venv(environment):
    if environment["python"] is None:
        return ""
    lines = sorted("%s==%s" % tuple(package) for package in environment["packages"])
    return environment["python"] + "\n" + "\n".join(lines) + "\n"


def fields(text, redent):
    message = email.message_from_string(text.replace("\r\n", "\n").replace("\r", "\n"))
    values = []
    for name in ("Name", "Version"):
        value = message[name]
        folded = value is not None and "\n" in value
        if folded and (redent == "always" or redent == "eight" and "\n        " in value):
            value = textwrap.dedent(" " * 8 + value)
        values.append(value)
    return values


def packages(status):
    found = {}
    for stanza in status.split("\n\n"):
        field = {}
        for line in stanza.splitlines():
            if line and not line[0].isspace():
                name, _, value = line.partition(":")
                field[name.lower()] = value.strip()
        if not field:
            continue
        found[field["package"].lower(), field["architecture"]] = field
    lines = []
    for (name, architecture), field in found.items():
        want, _, state = field["status"].split()
        if (want, state) != ("install", "installed"):
            continue
        if field.get("multi-arch") == "same" or architecture not in ("amd64", "all"):
            name += ":" + architecture
        epoch, colon, rest = field["version"].partition(":")
        version = rest if colon and int(epoch) == 0 and ":" not in rest else field["version"]
        line = name + "=" + version
        if line.startswith("lib") or line.endswith("dev") or "cuda" in line or "rocm" in line:
            lines.append(line)
    return by_bytes(lines)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        vectors = json.load(file)
    checked = 0
    for environment in vectors["environments"]:
        texts = [system(environment), apt(environment), *map(venv, environment["venvs"])]
        expected = environment["hashes"]
        parts = [h12(text) for text in texts]
        assert parts == [expected["system"], expected["apt"], *expected["venvs"]], environment["name"]
        assert h12("".join(parts) + "\n") == environment["hash"], environment["name"]
        checked += 1
    for metadata in vectors["metadata"]:
        for redent in ("no", "always", "eight"):
            assert fields(metadata["text"], redent) == metadata[redent], (redent, metadata)
        checked += 1
    for database in vectors["packages"]:
        assert packages(database["status"]) == database["lines"], database
        checked += 1
    print(checked)


main()
