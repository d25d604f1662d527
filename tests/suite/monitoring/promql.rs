//! As much of `PromQL` as it takes to say what an expression names, with the variables of a dashboard in it.
//! Whether it is valid, Prometheus says.

use std::{iter::Peekable, vec::IntoIter};

/// What an expression names.
#[derive(Debug, Default)]
pub(crate) struct Named {
    pub(crate) selectors: Vec<Selector>,
    /// Behind `by`, `on` and the like.
    pub(crate) labels: Vec<String>,
}

/// A metric and what is asked of it.
#[derive(Debug)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    /// Label, operator and value.
    pub(crate) matchers: Vec<(String, String, String)>,
    /// The innermost function around it; empty where there is none.
    pub(crate) function: String,
    /// What is between brackets; empty where there are none.
    pub(crate) range: String,
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const BETWEEN: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

pub(crate) fn named(expression: &str) -> Named {
    let mut tokens = tokens(expression).into_iter().peekable();
    let (mut named, mut functions, mut function) = (Named::default(), Vec::new(), String::new());
    while let Some(token) = tokens.next() {
        match token {
            // Metrics that are chosen by their names.
            Token::Sign('{') => {
                let inside = tokens.by_ref().take_while(|token| *token != Token::Sign('}')).collect();
                let mut matchers = pairs(inside);
                let at = matchers.iter().position(|(label, _, _)| label == "__name__").unwrap();
                for metric in matchers.remove(at).2.split('|').map(str::to_owned) {
                    let matchers = matchers.clone();
                    named.selectors.push(Selector { metric, matchers, function: String::new(), range: String::new() });
                }
            }
            Token::Sign('(') => functions.push(std::mem::take(&mut function)),
            Token::Sign(')') => assert!(functions.pop().is_some(), "a bracket too many: {expression}"),
            Token::Word(word) if BEFORE_LABELS.contains(&word.as_str()) => {
                if tokens.next_if_eq(&Token::Sign('(')).is_some() {
                    let inside = tokens.by_ref().take_while(|token| *token != Token::Sign(')'));
                    named.labels.extend(inside.filter_map(|token| match token {
                        Token::Word(label) => Some(label),
                        _ => None,
                    }));
                }
            }
            // Numbers, and variables that stand for one.
            Token::Word(word) if word == "Inf" || word.starts_with(|c: char| c.is_ascii_digit() || c == '$') => {}
            Token::Word(word) if BETWEEN.contains(&word.as_str()) => {}
            Token::Word(word) => match tokens.peek() {
                Some(Token::Sign('(')) => function = word,
                Some(Token::Word(next)) if BEFORE_LABELS.contains(&next.as_str()) && is_aggregation(&word) => {
                    function = word;
                }
                _ => {
                    let matchers = matchers(&mut tokens);
                    let range = between(&mut tokens, '[', ']').map(|tokens| format!("{tokens:?}")).unwrap_or_default();
                    let function = functions.last().cloned().unwrap_or_default();
                    named.selectors.push(Selector { metric: word, matchers, function, range });
                }
            },
            Token::Text(_) | Token::Sign(_) => {}
        }
    }
    assert!(functions.is_empty(), "a bracket too few: {expression}");
    named
}

fn is_aggregation(word: &str) -> bool {
    ["sum", "min", "max", "count", "count_values", "avg", "group", "topk", "bottomk", "quantile"].contains(&word)
}

fn matchers(tokens: &mut Peekable<IntoIter<Token>>) -> Vec<(String, String, String)> {
    pairs(between(tokens, '{', '}').unwrap_or_default())
}

/// Label, operator and value of each matcher.
fn pairs(inside: Vec<Token>) -> Vec<(String, String, String)> {
    let mut inside = inside.into_iter().peekable();
    let mut matchers = Vec::new();
    while let Some(token) = inside.next() {
        let Token::Word(label) = token else { continue };
        let mut operator = String::new();
        while let Some(Token::Sign(sign)) = inside.next_if(|token| matches!(token, Token::Sign(_))) {
            operator.push(sign);
        }
        match inside.next() {
            Some(Token::Text(value)) => matchers.push((label, operator, value)),
            other => panic!("{label}{operator} is followed by {other:?}"),
        }
    }
    matchers
}

/// What is between these signs, if the next one opens them.
fn between(tokens: &mut Peekable<IntoIter<Token>>, open: char, close: char) -> Option<Vec<Token>> {
    tokens.next_if_eq(&Token::Sign(open))?;
    Some(tokens.by_ref().take_while(|token| *token != Token::Sign(close)).collect())
}

fn tokens(expression: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = expression.chars().peekable();
    let is_of_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '.' | '$');
    while let Some(c) = chars.next() {
        if c == '"' {
            let mut text = String::new();
            while let Some(c) = chars.next().filter(|c| *c != '"') {
                text.push(if c == '\\' { chars.next().unwrap() } else { c });
            }
            tokens.push(Token::Text(text));
        } else if is_of_word(c) {
            let mut word = String::from(c);
            while let Some(c) = chars.next_if(|c| is_of_word(*c)) {
                word.push(c);
            }
            tokens.push(Token::Word(word));
        } else if !c.is_whitespace() {
            tokens.push(Token::Sign(c));
        }
    }
    tokens
}

#[test]
fn metrics_labels_functions_and_ranges_are_found() {
    let named = named(
        r#"sum by (zone, job) (rate(a_total{job=~"x|y", zone!="}"}[5m])) > 0 unless on (kind) max(b) / c offset 1h"#,
    );
    let selectors: Vec<_> =
        named.selectors.iter().map(|found| (found.metric.as_str(), found.function.as_str())).collect();
    assert_eq!(selectors, [("a_total", "rate"), ("b", "max"), ("c", "")]);
    assert_eq!(named.labels, ["zone", "job", "kind"]);
    let matcher = |parts: [&str; 3]| parts.map(str::to_owned).into();
    assert_eq!(named.selectors[0].matchers, [matcher(["job", "=~", "x|y"]), matcher(["zone", "!=", "}"])]);
    assert!(named.selectors[0].range.contains("5m") && named.selectors[1].range.is_empty());
}
