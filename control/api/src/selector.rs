//! Label selectors and field selectors: read, written back, matched.

use alloc::{
    borrow::ToOwned,
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use crate::{validation, views};

/// How a requirement compares.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// How.
    pub operator: Operator,
    /// Sorted; empty for `Exists` and `DoesNotExist`.
    pub values: Vec<String>,
}

/// All requirements must hold; none: everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    /// Matches nothing (a nil `LabelSelector` where Kubernetes says that it selects nothing).
    nothing: bool,
}

impl LabelSelector {
    /// Matches all.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches none.
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Reads `a=b,c in (d,e),!f,g!=h,i,j>3`.
    ///
    /// # Errors
    /// What is wrong, in Kubernetes' words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text };
        let mut requirements = Vec::new();
        if parser.peek().is_none() {
            return Ok(Self::default());
        }
        loop {
            requirements.push(parser.requirement()?);
            match parser.next() {
                None => break,
                Some(Token::Symbol(",")) if parser.peek().is_some() => {}
                Some(token) => {
                    return Err(format!(
                        "unable to parse requirement: found '{}', expected: ',' or 'end of string'",
                        token.text()
                    ));
                }
            }
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    /// All of these labels, exactly.
    pub fn from_labels(labels: &BTreeMap<String, String>) -> Self {
        let requirements = labels.iter().map(|(key, value)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: vec![value.clone()],
        });
        Self { requirements: requirements.collect(), nothing: false }
    }

    /// From a `LabelSelector` object; an empty one matches all.
    ///
    /// # Errors
    /// An operator that there is not, or values that do not go with it.
    pub fn from_view(view: &views::LabelSelector) -> Result<Self, String> {
        let mut selector = Self::from_labels(&view.match_labels);
        for expression in &view.match_expressions {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("{other:?} is not a valid label selector operator")),
            };
            let needs_values = matches!(operator, Operator::In | Operator::NotIn);
            if needs_values == expression.values.is_empty() {
                return Err(if needs_values {
                    "for 'in', 'notin' operators, values set can't be empty".into()
                } else {
                    "values set must be empty for exists and does not exist".into()
                });
            }
            let mut values = expression.values.clone();
            values.sort();
            selector.requirements.push(Requirement {
                key: expression.key.clone(),
                operator,
                values,
            });
        }
        selector.requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(selector)
    }

    /// No requirement: matches all.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// The requirements, by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether labels meet all requirements.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let number = |text: &String| text.parse::<i64>().ok();
        let bound = || self.values.first().and_then(number);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => value.and_then(number) > bound() && bound().is_some(),
            Operator::LessThan => value.and_then(number).is_some_and(|n| Some(n) < bound()),
        }
    }
}

impl core::fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let Requirement { key, operator, values } = requirement;
            let values = values.join(",");
            match operator {
                Operator::In if requirement.values.len() == 1 => write!(f, "{key}={values}")?,
                Operator::NotIn if requirement.values.len() == 1 => write!(f, "{key}!={values}")?,
                Operator::In => write!(f, "{key} in ({values})")?,
                Operator::NotIn => write!(f, "{key} notin ({values})")?,
                Operator::Exists => f.write_str(key)?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
                Operator::GreaterThan => write!(f, "{key}>{values}")?,
                Operator::LessThan => write!(f, "{key}<{values}")?,
            }
        }
        Ok(())
    }
}

enum Token<'a> {
    Symbol(&'static str),
    Word(&'a str),
}

impl Token<'_> {
    fn text(&self) -> String {
        match self {
            Self::Symbol(text) => (*text).to_owned(),
            Self::Word(text) => (*text).to_owned(),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        self.rest = self.rest.trim_start();
        if self.rest.is_empty() {
            return None;
        }
        for symbol in ["==", "!=", "=", "!", ",", "(", ")", ">", "<"] {
            if let Some(rest) = self.rest.strip_prefix(symbol) {
                self.rest = rest;
                return Some(Token::Symbol(symbol));
            }
        }
        let end = self
            .rest
            .find(|c: char| c.is_whitespace() || "=!,()><".contains(c))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(Token::Word(word))
    }

    fn peek(&mut self) -> Option<Token<'a>> {
        let before = self.rest;
        let token = self.next();
        self.rest = before;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (negated, key) = match self.next() {
            Some(Token::Symbol("!")) => (true, self.next()),
            other => (false, other),
        };
        let key = match key {
            Some(Token::Word(key)) => key.to_owned(),
            other => {
                let found = other.map(|token| token.text()).unwrap_or_default();
                return Err(format!(
                    "unable to parse requirement: found '{found}', expected: identifier"
                ));
            }
        };
        if let Some(why) = validation::qualified_name(&key).first() {
            return Err(format!("unable to parse requirement: key: Invalid value: {key:?}: {why}"));
        }
        if negated {
            return Ok(Requirement { key, operator: Operator::DoesNotExist, values: Vec::new() });
        }
        let operator = match self.peek() {
            None | Some(Token::Symbol(",")) => {
                return Ok(Requirement { key, operator: Operator::Exists, values: Vec::new() });
            }
            Some(Token::Symbol("=" | "==") | Token::Word("in")) => Operator::In,
            Some(Token::Symbol("!=") | Token::Word("notin")) => Operator::NotIn,
            Some(Token::Symbol(">")) => Operator::GreaterThan,
            Some(Token::Symbol("<")) => Operator::LessThan,
            Some(token) => {
                return Err(format!(
                    "unable to parse requirement: found '{}', expected: in, notin, =, ==, !=, gt, lt",
                    token.text()
                ));
            }
        };
        let set = matches!(self.next(), Some(Token::Word(_)));
        let mut values = if set { self.values()? } else { vec![self.exact_value()?] };
        if matches!(operator, Operator::GreaterThan | Operator::LessThan)
            && values.iter().any(|value| value.parse::<i64>().is_err())
        {
            return Err(format!(
                "unable to parse requirement: values[0][{key}]: Invalid value: {:?}: for 'Gt', 'Lt' operators, the value must be an integer",
                values.join(",")
            ));
        }
        for value in &values {
            if let Some(why) = validation::label_value(value).first() {
                return Err(format!(
                    "unable to parse requirement: values[0][{key}]: Invalid value: {value:?}: {why}"
                ));
            }
        }
        values.sort();
        values.dedup();
        Ok(Requirement { key, operator, values })
    }

    fn exact_value(&mut self) -> Result<String, String> {
        match self.peek() {
            None | Some(Token::Symbol(",")) => Ok(String::new()),
            Some(Token::Word(word)) => {
                let word = word.to_owned();
                self.next();
                Ok(word)
            }
            Some(token) => Err(format!(
                "unable to parse requirement: found '{}', expected: identifier",
                token.text()
            )),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        let expected = |token: Option<Token<'_>>, what: &str| {
            let found = token.map(|token| token.text()).unwrap_or_default();
            format!("unable to parse requirement: found '{found}' expected: {what}")
        };
        match self.next() {
            Some(Token::Symbol("(")) => {}
            other => return Err(expected(other, "'('")),
        }
        let mut values = Vec::new();
        loop {
            values.push(match self.peek() {
                Some(Token::Symbol("," | ")")) => String::new(),
                _ => self.exact_value()?,
            });
            match self.next() {
                Some(Token::Symbol(",")) => {}
                Some(Token::Symbol(")")) => return Ok(values),
                other => return Err(expected(other, "',', ')' or identifier")),
            }
        }
    }
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// `metadata.name`, `spec.nodeName`, …
    pub field: String,
    /// `=` or (false) `!=`.
    pub equal: bool,
    /// Compared as text.
    pub value: String,
}

/// All terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Matches all.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Reads `metadata.name=a,spec.nodeName!=b`; `\`, `,` and `=` in values are escaped with `\`.
    ///
    /// # Errors
    /// What is wrong, in Kubernetes' words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        for term in split_escaped(text) {
            if term.is_empty() {
                continue;
            }
            let wrong = || format!("invalid selector: '{text}'; can't understand '{term}'");
            let at = term.find("!=").or_else(|| term.find('=')).ok_or_else(wrong)?;
            let (field, rest) = term.split_at_checked(at).ok_or_else(wrong)?;
            let (equal, value) = if let Some(value) = rest.strip_prefix("!=") {
                (false, value)
            } else if let Some(value) = rest.strip_prefix("==") {
                (true, value)
            } else {
                (true, rest.strip_prefix('=').ok_or_else(wrong)?)
            };
            terms.push(FieldTerm { field: field.to_string(), equal, value: unescape(value)? });
        }
        Ok(Self { terms })
    }

    /// No term: matches all.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The terms, as written.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// The value that this field must have, where the selector says so (`metadata.name=x`).
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|t| t.value.as_str())
    }

    /// Whether all terms hold, with `value_of` giving a field's text ("" where unset).
    pub fn matches(&self, mut value_of: impl FnMut(&str) -> String) -> bool {
        self.terms.iter().all(|term| (value_of(&term.field) == term.value) == term.equal)
    }

    /// The first field that is none of those supported.
    pub fn unsupported(&self, supported: &[&str]) -> Option<&str> {
        self.terms.iter().map(|t| t.field.as_str()).find(|field| !supported.contains(field))
    }
}

impl core::fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (index, FieldTerm { field, equal, value }) in self.terms.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let sign = if *equal { "=" } else { "!=" };
            let value = value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{field}{sign}{value}")?;
        }
        Ok(())
    }
}

/// Splits at commas that no `\` stands before.
fn split_escaped(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == ',' && !escaped {
            parts.push(text.get(start..at).unwrap_or_default());
            start = at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(format!(
                        "invalid field selector: invalid escape sequence: \\{other}"
                    ));
                }
            },
            '=' => return Err(format!("invalid field selector: invalid value: {text:?}")),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use alloc::{
        collections::BTreeMap,
        string::{String, ToString},
    };

    use super::{FieldSelector, LabelSelector};

    fn labels(text: &str) -> BTreeMap<String, String> {
        text.split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.into(), value.into()))
            .collect()
    }

    #[test]
    fn label_selectors_match() {
        let check = |selector: &str, has: &str, want| {
            let parsed = LabelSelector::parse(selector).unwrap();
            assert_eq!(parsed.matches(&labels(has)), want, "{selector} on {has}");
            assert_eq!(LabelSelector::parse(&parsed.to_string()).unwrap(), parsed, "{selector}");
        };
        check("", "a=b", true);
        check("a=b", "a=b", true);
        check("a==b", "a=c", false);
        check("a!=b", "", true);
        check("a in (b,c)", "a=c", true);
        check("a notin (b, c)", "a=c", false);
        check("!a", "a=b", false);
        check("!a,b", "b=", true);
        check("a>3", "a=4", true);
        check("a<3", "a=4", false);
        check("a<3", "", false);
        check("a=", "a=", true);
        check(" a = b , c in ( d ) ", "a=b,c=d", true);
    }

    #[test]
    fn bad_label_selectors_are_refused() {
        for bad in ["a=b=c", ",", "a in b", "a in (b", "a b", "=a", "a,", "a=b!", "a>x", "a/b/c=d"]
        {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn field_selectors_match() {
        let check = |selector: &str, want| {
            let parsed = FieldSelector::parse(selector).unwrap();
            let value_of = |field: &str| {
                if field == "metadata.name" { "a,b".to_string() } else { String::new() }
            };
            assert_eq!(parsed.matches(value_of), want, "{selector}");
            assert_eq!(FieldSelector::parse(&parsed.to_string()).unwrap(), parsed, "{selector}");
        };
        check("metadata.name=a\\,b", true);
        check("metadata.name!=a\\,b", false);
        check("spec.nodeName=", true);
        check("spec.nodeName!=,metadata.name==a\\,b", false);
        check("", true);
        assert!(FieldSelector::parse("x").is_err());
        assert!(FieldSelector::parse("x=\\q").is_err());
    }
}
