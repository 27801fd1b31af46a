//! Secrets in text whose writer is unknown: logs, configuration, addresses.
//!
//! | found by | samples |
//! |---|---|
//! | a name | `WEB_PASSWORD=…`, `"api_key": "…"`, `--api-key …`, `?token=…` |
//! | a header | `Authorization: …`, `Cookie: …`, `Bearer …` |
//! | a place | `https://user:password@host`, `-u user:password` |
//! | a frame | `-----BEGIN … PRIVATE KEY-----` to its end |
//! | a shape | `hf_…`, `ghp_…`, `AKIA…`, a JSON web token, a bcrypt hash |

use super::{MASK, is_secret};

/// What tokens of well-known services start with.
const PREFIXES: [&str; 22] = [
    "hf_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "sk-",
    "sk_live_",
    "rk_live_",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "AKIA",
    "ASIA",
    "AIza",
    "npm_",
    "pypi-",
    "dop_v1_",
    "nvapi-",
    "tskey-",
    "$2",
];

/// What follows such a start in a real token.
const SHORTEST_BODY_BYTES: usize = 16;

/// A credential after `Bearer` that is shorter is a word of a sentence.
const SHORTEST_BEARER_BYTES: usize = 8;

/// `text` without what looks like a secret.
pub(super) fn scrub(text: &str) -> String {
    // PEM, and OpenPGP.
    let unframed = frames(&frames(text, "PRIVATE KEY-----"), "PRIVATE KEY BLOCK-----");
    shapes(&logins(&bearers(&named(&addresses(&unframed)))))
}

/// `text` as it stands in an address.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([byte]));
        }
    }
    encoded
}

/// `secret` as it stands in a JSON text.
pub(super) fn json_escaped(secret: &str) -> String {
    let quoted = serde_json::to_string(secret).unwrap_or_default();
    quoted.trim_matches('"').to_owned()
}

/// Private keys. One whose beginning was cut off goes from the start of the text, one whose end was, to its end.
fn frames(text: &str, label: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once(label) {
        let start = before.rfind("-----BEGIN").or_else(|| before.rfind("-----END").map(|_| 0)).unwrap_or(before.len());
        let begins = before[start..].starts_with("-----BEGIN");
        out.push_str(&rest[..start]);
        out.push_str(MASK);
        rest = match after.split_once(label) {
            Some((_, behind)) if begins => behind,
            None if begins => "",
            _ => after,
        };
    }
    out + rest
}

/// User and password in addresses.
fn addresses(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "/?#\"'<>`\\".contains(c)).unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(user) => {
                out.push_str(MASK);
                &after[user..]
            }
            None => after,
        };
    }
    out + rest
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.".contains(c)
}

/// The values of names that hold secrets.
fn named(text: &str) -> String {
    let (mut out, mut rest, mut before) = (String::new(), text, '\n');
    while let Some(start) = rest.find(is_name) {
        before = rest[..start].chars().next_back().unwrap_or(before);
        let (skipped, from) = rest.split_at(start);
        let (name, after) = from.split_at(from.find(|c| !is_name(c)).unwrap_or(from.len()));
        out.push_str(skipped);
        out.push_str(name);
        rest = after;
        let hidden = hidden(name, after, before);
        before = name.chars().next_back().unwrap_or(before);
        if let Some((gap, value)) = hidden {
            out.push_str(&after[..gap]);
            out.push_str(MASK);
            rest = &after[gap + value..];
            before = '*';
        }
    }
    out + rest
}

/// Where the secret of `name` lies in what follows it, if it is one: what comes before it and how long it is, in bytes.
fn hidden(name: &str, after: &str, before: char) -> Option<(usize, usize)> {
    let plain: String = name.trim_start_matches('-').replace(['-', '.'], "_").to_ascii_uppercase();
    let header = ["AUTHORIZATION", "COOKIE"].iter().any(|header| plain.ends_with(header));
    if !header && !names_a_secret(&plain) {
        return None;
    }
    let gap = gap(name, after, header)?;
    let value = &after[gap..];
    // What was masked before; with more behind it, the more is masked too.
    if value.strip_prefix(MASK).is_some_and(|more| !more.starts_with(|c: char| c.is_alphanumeric())) {
        return None;
    }
    let length = if header || value.starts_with("$(") {
        // Stage 10 writes a value of several lines as `$(printf …)` on one line.
        value.find('\n').unwrap_or(value.len())
    } else {
        length(value, before == '?' || before == '&')
    };
    let value = &value[..length];
    let counted =
        plain.contains("TOKENS") && !value.is_empty() && value.trim_end_matches([',', '}']).parse::<f64>().is_ok();
    let nothing = ["", "null", "None", "true", "false"].contains(&value.trim_matches(['"', '\'', ',', ' ', '}']));
    (!counted && !nothing).then_some((gap, length))
}

/// As for a variable, without the words that fill the logs of language models.
fn names_a_secret(name: &str) -> bool {
    let last = ["SIG", "SIGNATURE"];
    (is_secret(name) && !name.contains("TOKENIZ")) || name.rsplit('_').next().is_some_and(|word| last.contains(&word))
}

/// How far the value is from its name: behind `=` or `:`, with quotes of the name; a flag's and a header's also behind white space.
fn gap(name: &str, after: &str, header: bool) -> Option<usize> {
    let blank = |text: &str| text.len() - text.trim_start_matches([' ', '\t']).len();
    let quotes = after.len() - after.trim_start_matches(['"', '\'', '\\', ']']).len();
    let gap = quotes + blank(&after[quotes..]);
    let rest = &after[gap..];
    let signs = rest.len() - rest.trim_start_matches(['=', ':', '>']).len();
    if signs > 0 {
        return Some(gap + signs + blank(&rest[signs..]));
    }
    if header {
        let value = ["\"", "'", "*", "Basic ", "Bearer ", "Digest ", "Token "];
        return (gap > quotes && value.iter().any(|start| rest.starts_with(start))).then_some(gap);
    }
    if !name.starts_with("--") {
        return None;
    }
    // `['--api-key', 'x']`, as programs log their arguments.
    if let Some(listed) = rest.strip_prefix(',') {
        return Some(gap + 1 + blank(listed));
    }
    (gap > quotes && !rest.starts_with('-')).then_some(gap)
}

/// How long a value is that starts here.
fn length(value: &str, in_query: bool) -> usize {
    let ends = |from: usize| value[from..].find(char::is_whitespace).map_or(value.len(), |end| from + end);
    let first = value.trim_start_matches('\\');
    let Some(quote) = first.chars().next().filter(|c| "\"'[{(".contains(*c)) else { return unquoted(value, in_query) };
    let opened = value.len() - first.len() + 1;
    let close = match quote {
        '[' => ']',
        '{' => '}',
        '(' => ')',
        quote => quote,
    };
    let mut escaped = false;
    for (at, c) in value[opened..].char_indices() {
        if c == close && (!escaped || opened > 1) {
            let end = opened + at + 1;
            // `'it'\''s'` is one value.
            let more = value[end..].chars().next().is_some_and(|c| c.is_alphanumeric() || "'\"\\".contains(c));
            return if more && opened == 1 { ends(end) } else { end };
        }
        escaped = c == '\\' && !escaped;
    }
    value.len()
}

fn unquoted(value: &str, in_query: bool) -> usize {
    for (at, c) in value.char_indices() {
        let next = value[at + c.len_utf8()..].chars().next();
        let closes = "\"'\\".contains(c) && next.is_none_or(|next| next.is_whitespace() || ",}])\"'\\".contains(next));
        if c.is_whitespace() || closes || (in_query && "&#\"'<>\\".contains(c)) {
            return at;
        }
    }
    value.len()
}

/// What follows `Bearer`.
fn bearers(text: &str) -> String {
    const WORD: &str = "bearer ";
    let lower = text.to_ascii_lowercase();
    let (mut out, mut done) = (String::new(), 0);
    while let Some(found) = lower[done..].find(WORD) {
        let start = done + found + WORD.len();
        out.push_str(&text[done..start]);
        let end =
            text[start..].find(|c: char| !(is_name(c) || "+/=~".contains(c))).map_or(text.len(), |end| start + end);
        out.push_str(if end - start >= SHORTEST_BEARER_BYTES { MASK } else { &text[start..end] });
        done = end;
    }
    out + &text[done..]
}

/// The password of `curl -u user:password`; `docker -u 1000:1000` has none.
fn logins(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) =
        ["-u ", "--user ", "--user="].iter().filter_map(|flag| Some(rest.find(flag)? + flag.len())).min()
    {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        rest = after;
        let word = &after[..after.find(char::is_whitespace).unwrap_or(after.len())];
        let password = word.split_once(':').map(|(_, password)| password);
        if let Some(password) = password.filter(|password| password.bytes().any(|byte| !byte.is_ascii_digit())) {
            out.push_str(&word[..word.len() - password.len()]);
            out.push_str(MASK);
            rest = &after[word.len()..];
        }
    }
    out + rest
}

/// Words that are tokens by their look.
fn shapes(text: &str) -> String {
    let part = |c: char| is_name(c) || c == '$';
    let (mut out, mut rest) = (String::new(), text);
    while let Some(start) = rest.find(part) {
        let (skipped, from) = rest.split_at(start);
        let end = from.find(|c| !part(c)).unwrap_or(from.len());
        // The hash of a password has `/` among its characters.
        let end = if from.starts_with("$2") { from.find(|c| !part(c) && c != '/').unwrap_or(from.len()) } else { end };
        let (word, after) = from.split_at(end);
        out.push_str(skipped);
        out.push_str(if is_token(word) { MASK } else { word });
        rest = after;
    }
    out + rest
}

fn is_token(word: &str) -> bool {
    let body = PREFIXES.iter().find_map(|prefix| word.strip_prefix(prefix));
    let known =
        body.is_some_and(|body| body.len() >= SHORTEST_BODY_BYTES && body.bytes().any(|byte| byte.is_ascii_digit()));
    known || (word.starts_with("eyJ") && word.matches('.').count() >= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_goes_by_its_name_place_frame_or_shape() {
        for (text, expected) in [
            ("WEB_PASSWORD=a,b&c next", "WEB_PASSWORD=*** next"),
            ("export HF_TOKEN='it'\\''s' x", "export HF_TOKEN=*** x"),
            ("A_KEY=\"a \\\" b\" B=1", "A_KEY=*** B=1"),
            ("X_SECRET=$(printf %b. 'a\\nb'); X_SECRET=${X_SECRET%.}\nB=1", "X_SECRET=***\nB=1"),
            (r#"{"api_key": "k1", "next": 2}"#, r#"{"api_key": ***, "next": 2}"#),
            (r#"{"msg":"token=abc","next":2}"#, r#"{"msg":"token=***","next":2}"#),
            (r#"{"m":"{\"password\":\"abc\",\"b\":1}"}"#, r#"{"m":"{\"password\":***,\"b\":1}"}"#),
            ("environment=A_TOKEN=\"x\",PROC_NAME=\"y\"", "environment=A_TOKEN=***,PROC_NAME=\"y\""),
            ("password: hunter2", "password: ***"),
            ("serve --api-key abc --port 1", "serve --api-key *** --port 1"),
            ("['--api-key', 'abc', '--port']", "['--api-key', ***, '--port']"),
            ("Namespace(api_key=['abc', 'd'], n=1)", "Namespace(api_key=***, n=1)"),
            ("GET /?token=abc&a=1 HTTP", "GET /?token=***&a=1 HTTP"),
            ("\"GET /?a=1&access_token=abc\" 200", "\"GET /?a=1&access_token=***\" 200"),
            ("https://h/o?X-Amz-Signature=ab12&x=1", "https://h/o?X-Amz-Signature=***&x=1"),
            ("clone https://u:p:w@host/x", "clone https://***@host/x"),
            ("postgres://token@host", "postgres://***@host"),
            ("Authorization: Basic dTpw\nnext", "Authorization: ***\nnext"),
            ("  header Authorization \"Basic dTpw\"\n}", "  header Authorization ***\n}"),
            ("set-cookie: C.1_auth_token=abc; Path=/", "set-cookie: ***"),
            ("query C.1_auth_token=abc", "query C.1_auth_token=***"),
            ("sent bearer abcdefgh.ij+/= away", "sent bearer *** away"),
            ("a\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nb", "a\n***\nb"),
            ("-----BEGIN PGP PRIVATE KEY BLOCK-----\nlQ\n-----END PGP PRIVATE KEY BLOCK-----\nb", "***\nb"),
            ("MIIE\n-----END PRIVATE KEY-----\nb", "***\nb"),
            ("a -----BEGIN PRIVATE KEY-----\\nMIIE", "a ***"),
            ("curl -u me:pw https://host", "curl -u me:*** https://host"),
            ("<password>abc</password> b", "<password>*** b"),
            ("got hf_0123456789abcdefXYZ.", "got ***"),
            ("eyJhbGciOiJI.eyJzdWIi.c2ln", "***"),
            ("basicauth { vastai $2a$14$abcdefghijklmnopqrstu/uv }", "basicauth { vastai *** }"),
        ] {
            assert_eq!(scrub(text), expected, "{text}");
            assert_eq!(scrub(&scrub(text)), expected, "again: {text}");
        }
    }

    #[test]
    fn what_only_reads_like_a_secret_stays() {
        for text in [
            "max_tokens=4096, prompt_tokens: 12",
            "tokenizer='meta-llama/Llama'",
            "password is required",
            "HF_TOKEN is not set",
            "cwd: /workspace PWD=/workspace",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "https://host/@scope/a?b=c",
            "the bearer of bad news",
            "request_header -Authorization",
            "token: null",
            "sk-learn",
            "docker run -u 1000:1000 image",
            "ls -u file",
        ] {
            assert_eq!(scrub(text), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[ -~é\n=:\"'\\\\]{0,60}") {
            let _ = scrub(&text);
        }

        #[test]
        fn the_value_of_a_secret_name_never_stays(value in "[a-zA-Z0-9/+,;@#%^*~!-]{6,30}", form in 0_usize..7) {
            let forms = [
                format!("X_TOKEN={value}"),
                format!("x-api-key: {value}\n"),
                format!("{{\"password\":\"{value}\"}}"),
                format!("a b --web-password '{value}' c"),
                format!("X_SECRET=\"{value}\",Y=1"),
                format!("Authorization: Bearer {value}"),
                format!("token = {value}"),
            ];
            proptest::prop_assume!(!value.starts_with('-') && !value.contains("***"));
            let told = scrub(&forms[form]);
            proptest::prop_assert!(!told.contains(&value), "{}", told);
        }
    }
}
