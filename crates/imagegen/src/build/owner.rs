//! `--chown` and `--chmod`.

/// A user or a group as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Id {
    Number(u64),
    Name(String),
}

/// The value of `--chown`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chown {
    pub user: Id,
    pub group: Option<Id>,
}

impl Chown {
    /// `user[:group]`, each a name or a number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let id = |text: &str| match text {
            "" => None,
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse::<u32>().ok().map(|number| Id::Number(number.into()))
            }
            name => Some(Id::Name(name.to_owned())),
        };
        match text.split_once(':') {
            None => Some(Self { user: id(text)?, group: None }),
            Some((user, group)) => Some(Self { user: id(user)?, group: Some(id(group)?) }),
        }
    }

    /// Whether the image's user database is needed to know the numbers.
    pub(super) fn needs_names(&self) -> bool {
        matches!(self.user, Id::Name(_)) || matches!(self.group, Some(Id::Name(_)))
    }

    /// The numbers, with the content of the image's `/etc/passwd` and `/etc/group`; or the name that is unknown.
    ///
    /// Without a group, a named user's primary group is taken, and a number stands for both, as the Dockerfile reference says.
    pub(super) fn numbers(&self, passwd: &str, group: &str) -> Result<(u64, u64), String> {
        let (uid, primary) = match &self.user {
            Id::Number(number) => (*number, *number),
            Id::Name(name) => {
                let fields = line_of(passwd, name).ok_or_else(|| format!("user `{name}`"))?;
                let number = |at: usize| fields.get(at).and_then(|field| field.parse().ok());
                number(2).zip(number(3)).ok_or_else(|| format!("user `{name}`"))?
            }
        };
        let gid = match &self.group {
            None => primary,
            Some(Id::Number(number)) => *number,
            Some(Id::Name(name)) => line_of(group, name)
                .and_then(|fields| fields.get(2)?.parse().ok())
                .ok_or_else(|| format!("group `{name}`"))?,
        };
        Ok((uid, gid))
    }
}

fn line_of<'a>(database: &'a str, name: &str) -> Option<Vec<&'a str>> {
    database.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&name))
}

/// The value of `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chmod {
    /// Octal digits: the mode itself.
    Absolute(u32),
    /// Clauses such as `u=rwX,go=rX`.
    Symbolic(Vec<Clause>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    who: u32,
    operator: char,
    permissions: u32,
    /// `X`: execution for directories and for what somebody may execute already.
    conditional_x: bool,
    set_id: bool,
    sticky: bool,
}

impl Chmod {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).map(Self::Absolute);
        }
        text.split(',').map(clause).collect::<Option<Vec<_>>>().map(Self::Symbolic)
    }

    /// The mode that `mode` becomes.
    pub(super) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Absolute(absolute) => *absolute,
            Self::Symbolic(clauses) => clauses.iter().fold(mode, |mode, clause| clause.apply(mode, is_directory)),
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let mut bits = self.permissions;
        if self.conditional_x && (is_directory || mode & 0o111 != 0) {
            bits |= 0o111;
        }
        let mut bits = bits & self.who;
        if self.set_id {
            bits |= (if self.who & 0o700 != 0 { 0o4000 } else { 0 }) | (if self.who & 0o070 != 0 { 0o2000 } else { 0 });
        }
        if self.sticky {
            bits |= 0o1000;
        }
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => mode & !self.who | bits,
        }
    }
}

fn clause(text: &str) -> Option<Clause> {
    let operator_at = text.find(['+', '-', '='])?;
    let (who, rest) = text.split_at(operator_at);
    let mut parsed = Clause {
        who: 0,
        operator: rest.chars().next()?,
        permissions: 0,
        conditional_x: false,
        set_id: false,
        sticky: false,
    };
    for c in who.chars() {
        parsed.who |= match c {
            'u' => 0o700,
            'g' => 0o070,
            'o' => 0o007,
            'a' => 0o777,
            _ => return None,
        };
    }
    if who.is_empty() {
        parsed.who = 0o777;
    }
    for c in rest[1..].chars() {
        match c {
            'r' => parsed.permissions |= 0o444,
            'w' => parsed.permissions |= 0o222,
            'x' => parsed.permissions |= 0o111,
            'X' => parsed.conditional_x = true,
            's' => parsed.set_id = true,
            't' => parsed.sticky = true,
            _ => return None,
        }
    }
    Some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nuser:x:1001:0::/home/user:/bin/bash\n";
    const GROUP: &str = "root:x:0:\nvideo:x:44:user\n";

    #[test]
    fn owners_are_numbers_or_names_of_the_image() {
        for (text, expected) in [
            ("1001", Ok((1001, 1001))),
            ("1001:0", Ok((1001, 0))),
            ("user", Ok((1001, 0))),
            ("user:video", Ok((1001, 44))),
            ("7:video", Ok((7, 44))),
            ("nobody", Err("user `nobody`".to_owned())),
            ("user:none", Err("group `none`".to_owned())),
        ] {
            assert_eq!(Chown::parse(text).unwrap().numbers(PASSWD, GROUP), expected, "{text}");
        }
        for bad in ["", ":", "user:", ":0", "99999999999"] {
            assert_eq!(Chown::parse(bad), None, "{bad}");
        }
        assert!(!Chown::parse("1:2").unwrap().needs_names());
        assert!(Chown::parse("1:video").unwrap().needs_names());
    }

    #[test]
    fn modes_are_octal_or_symbolic() {
        for (text, mode, is_directory, expected) in [
            ("755", 0o600, false, 0o755),
            ("0644", 0o755, true, 0o644),
            ("4755", 0o644, false, 0o4755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("a+x", 0o644, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("go-w", 0o666, false, 0o644),
            ("u+s", 0o755, false, 0o4755),
            ("+t", 0o777, true, 0o1777),
        ] {
            assert_eq!(Chmod::parse(text).unwrap().apply(mode, is_directory), expected, "{text}");
        }
        for bad in ["", "999", "77777", "z+x", "u", "u+q"] {
            assert_eq!(Chmod::parse(bad), None, "{bad}");
        }
    }
}
