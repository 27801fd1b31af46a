//! XML-RPC values: the part of <http://xmlrpc.com/spec.md> that Supervisor speaks.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::Event;

/// Deeper than any answer of Supervisor; text from elsewhere must not exhaust the stack.
const DEPTH_LIMIT: usize = 32;

/// A value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `int`, `i4` or `i8`.
    Int(i64),
    /// `boolean`.
    Bool(bool),
    /// `string`, or text without a type.
    Text(String),
    /// `double`.
    Double(f64),
    /// `array`.
    Array(Vec<Value>),
    /// `struct`.
    Struct(BTreeMap<String, Value>),
    /// `nil`, and types that nobody here asks for.
    Nil,
}

impl Value {
    /// The member of a struct.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Struct(members) => members.get(name),
            _ => None,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    fn write(&self, xml: &mut String) {
        let text = match self {
            Self::Int(number) => format!("<int>{number}</int>"),
            Self::Bool(yes) => format!("<boolean>{}</boolean>", u8::from(*yes)),
            Self::Double(number) => format!("<double>{number}</double>"),
            Self::Text(text) => format!("<string>{}</string>", escape(text)),
            Self::Nil => "<nil/>".to_owned(),
            Self::Array(values) => {
                let mut inner = String::new();
                for value in values {
                    value.write(&mut inner);
                }
                format!("<array><data>{inner}</data></array>")
            }
            Self::Struct(members) => {
                let mut inner = String::new();
                for (name, value) in members {
                    inner.extend(["<member><name>", &escape(name), "</name>"]);
                    value.write(&mut inner);
                    inner.push_str("</member>");
                }
                format!("<struct>{inner}</struct>")
            }
        };
        xml.extend(["<value>", &text, "</value>"]);
    }
}

/// A call as XML.
pub(super) fn call(method: &str, parameters: &[Value]) -> String {
    let mut xml = format!("<?xml version=\"1.0\"?><methodCall><methodName>{}</methodName><params>", escape(method));
    for parameter in parameters {
        xml.push_str("<param>");
        parameter.write(&mut xml);
        xml.push_str("</param>");
    }
    xml.push_str("</params></methodCall>");
    xml
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Value(Value),
    Fault { code: i64, text: String },
}

/// Reads an answer.
pub(super) fn answer(xml: &str) -> Result<Answer, String> {
    let mut reader = Reader::from_str(xml);
    // `<nil/>` reads as `<nil></nil>`.
    reader.config_mut().expand_empty_elements = true;
    let mut parser = Parser { reader };
    let mut fault = false;
    loop {
        match parser.next()? {
            Token::Open(name) if name == "fault" => fault = true,
            Token::Open(name) if name == "value" => break,
            Token::End => return Err("it holds no value".to_owned()),
            _ => {}
        }
    }
    let value = parser.value(0)?;
    if !fault {
        return Ok(Answer::Value(value));
    }
    let code = value.get("faultCode").and_then(Value::as_int).unwrap_or_default();
    let text = value.get("faultString").and_then(Value::as_text).unwrap_or("no reason given").to_owned();
    Ok(Answer::Fault { code, text })
}

enum Token {
    Open(String),
    Close(String),
    Text(String),
    End,
}

struct Parser<'a> {
    reader: Reader<&'a [u8]>,
}

impl Parser<'_> {
    fn next(&mut self) -> Result<Token, String> {
        loop {
            return Ok(match self.reader.read_event().map_err(|error| error.to_string())? {
                Event::Start(start) => Token::Open(start.name().as_ref().to_owned()),
                Event::End(end) => Token::Close(end.name().as_ref().to_owned()),
                Event::Text(text) => Token::Text(text.xml10_content().into_owned()),
                Event::CData(data) => Token::Text(data.xml10_content().into_owned()),
                Event::GeneralRef(reference) => {
                    let character = reference.resolve_char_ref().map_err(|error| error.to_string())?;
                    let named = || resolve_predefined_entity(reference.as_ref()).map(str::to_owned);
                    Token::Text(character.map(String::from).or_else(named).unwrap_or_default())
                }
                Event::Eof => Token::End,
                _ => continue,
            });
        }
    }

    /// Reads a value whose `<value>` was just read, to its `</value>`.
    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEPTH_LIMIT {
            return Err("it nests too deep".to_owned());
        }
        let mut bare = String::new();
        let value = loop {
            match self.next()? {
                Token::Text(text) => bare.push_str(&text),
                Token::Close(_) => return Ok(Value::Text(bare)),
                Token::Open(kind) => break self.typed(&kind, depth)?,
                Token::End => return Err("it ends within a value".to_owned()),
            }
        };
        self.until("value")?;
        Ok(value)
    }

    fn typed(&mut self, kind: &str, depth: usize) -> Result<Value, String> {
        match kind {
            "array" => self.array(depth),
            "struct" => self.members(depth),
            _ => {
                let text = self.until(kind)?;
                let bad = || format!("{text:?} is not of type {kind}");
                Ok(match kind {
                    "int" | "i4" | "i8" => Value::Int(text.trim().parse().map_err(|_| bad())?),
                    "boolean" => Value::Bool(text.trim() == "1"),
                    "double" => Value::Double(text.trim().parse().map_err(|_| bad())?),
                    "string" => Value::Text(text),
                    _ => Value::Nil,
                })
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, String> {
        let mut values = Vec::new();
        loop {
            match self.next()? {
                Token::Open(name) if name == "value" => values.push(self.value(depth + 1)?),
                Token::Close(name) if name == "array" => return Ok(Value::Array(values)),
                Token::End => return Err("it ends within an array".to_owned()),
                _ => {}
            }
        }
    }

    fn members(&mut self, depth: usize) -> Result<Value, String> {
        let mut members = BTreeMap::new();
        let mut name = String::new();
        loop {
            match self.next()? {
                Token::Open(tag) if tag == "name" => name = self.until("name")?,
                Token::Open(tag) if tag == "value" => {
                    let value = self.value(depth + 1)?;
                    members.insert(std::mem::take(&mut name), value);
                }
                Token::Close(tag) if tag == "struct" => return Ok(Value::Struct(members)),
                Token::End => return Err("it ends within a struct".to_owned()),
                _ => {}
            }
        }
    }

    /// The text up to the end of this element.
    fn until(&mut self, element: &str) -> Result<String, String> {
        let mut text = String::new();
        loop {
            match self.next()? {
                Token::Text(more) => text.push_str(&more),
                Token::Close(name) if name == element => return Ok(text),
                Token::End => return Err(format!("it ends within `{element}`")),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(value: &str) -> String {
        format!("<?xml version='1.0'?><methodResponse><params><param>{value}</param></params></methodResponse>")
    }

    #[test]
    fn an_answer_as_supervisor_writes_it_is_read() {
        let xml = wrapped(
            "<value><array><data>\n<value><struct>\n<member>\n<name>name</name>\n<value><string>a&amp;b&#233;</string></value>\n\
             </member><member><name>pid</name><value><int>42</int></value></member>\
             <member><name>up</name><value><boolean>1</boolean></value></member>\
             <member><name>bare</name><value>text</value></member>\
             <member><name>empty</name><value><string></string></value></member>\
             <member><name>none</name><value><nil/></value></member>\
             <member><name>nothing</name><value/></member></struct></value></data></array></value>",
        );
        let Ok(Answer::Value(Value::Array(values))) = answer(&xml) else { panic!("{:?}", answer(&xml)) };
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        for (name, value) in [
            ("name", text("a&bé")),
            ("pid", Some(Value::Int(42))),
            ("up", Some(Value::Bool(true))),
            ("bare", text("text")),
            ("empty", text("")),
            ("none", Some(Value::Nil)),
            ("nothing", text("")),
            ("missing", None),
        ] {
            assert_eq!(values[0].get(name), value.as_ref(), "{name}");
        }
    }

    #[test]
    fn a_fault_is_not_a_value() {
        let xml = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>10</int></value></member>\
                   <member><name>faultString</name><value><string>BAD_NAME: x</string></value></member></struct></value>\
                   </fault></methodResponse>";
        assert_eq!(answer(xml), Ok(Answer::Fault { code: 10, text: "BAD_NAME: x".to_owned() }));
    }

    #[test]
    fn what_is_cut_or_nests_without_end_is_an_error() {
        let deep = wrapped(&"<value><array><data>".repeat(10_000));
        for xml in ["", "<methodResponse>", "<a><value><int>x</int></value></a>", "<value><struct>", deep.as_str()] {
            assert!(answer(xml).is_err(), "{}", &xml[..xml.len().min(40)]);
        }
    }

    fn any_value() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::Int),
            any::<bool>().prop_map(Value::Bool),
            "[ -~é\n]{0,12}".prop_map(Value::Text),
            Just(Value::Nil),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map("[a-z<&>]{1,6}", inner, 0..4).prop_map(Value::Struct),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_as_it_was(value in any_value()) {
            let mut xml = String::new();
            value.write(&mut xml);
            proptest::prop_assert_eq!(answer(&wrapped(&xml)), Ok(Answer::Value(value)));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            let _ = answer(&text);
        }
    }
}
