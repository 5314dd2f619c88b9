//! What an evaluation costs at most, counted before it starts.
//!
//! The expression is gone through with the sizes of the predicate at hand. A step is about a part that is evaluated; what
//! compares, copies or looks through a value costs a step for each value in it and for every 16 bytes of its texts. A
//! comprehension costs its body for every element. Elements are disjoint, so what a body does with its own element costs,
//! over all rounds, no more than once for the whole range: costs are sums of products of sizes, hence convex, and
//! `rounds · body(smallest) + body(whole range)` bounds them.

use std::collections::HashMap;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use serde_json::Value;

use super::Pattern;

/// Steps of a round besides its body: variables are set and dropped.
const ROUND: u64 = 8;
/// Sizes up to which a comparison is as good as one with a constant.
const SMALL: u64 = 16;
/// Bytes of text that are handled in a step.
const TEXT: u64 = 16;

/// Prices expressions over these variables.
pub(super) struct Pricing<'a> {
    pub(super) variables: [(&'static str, &'a Value); 3],
    pub(super) patterns: &'a HashMap<String, Pattern>,
    /// Variables of the comprehensions around, with the size of their values.
    scope: Vec<(&'a str, u64)>,
    /// Sizes that were counted, by the place of the value.
    sizes: HashMap<usize, u64>,
}

/// What a part costs and what comes out of it.
#[derive(Debug, Clone, Copy, Default)]
struct Price<'a> {
    steps: u64,
    /// The result's size, at most.
    size: u64,
    /// The result, if it is a part of a variable that is known.
    known: Option<&'a Value>,
    /// Whether the size depends on an element of a comprehension around.
    element: bool,
    /// Whether the result was made, so that what is taken from it is copied.
    made: bool,
}

impl Price<'_> {
    fn scalar(steps: u64) -> Self {
        Self { steps: steps.saturating_add(1), size: 1, ..Self::default() }
    }
}

impl<'a> Pricing<'a> {
    pub(super) fn new(variables: [(&'static str, &'a Value); 3], patterns: &'a HashMap<String, Pattern>) -> Self {
        Self { variables, patterns, scope: Vec::new(), sizes: HashMap::new() }
    }

    /// Steps of one evaluation, its variables' conversion included.
    pub(super) fn steps(&mut self, expression: &'a IdedExpr) -> u64 {
        let variables = self.variables.map(|(_, value)| self.size(value));
        variables.into_iter().fold(self.price(expression).steps, u64::saturating_add)
    }

    fn size(&mut self, value: &Value) -> u64 {
        let place = std::ptr::from_ref(value).addr();
        *self.sizes.entry(place).or_insert_with(|| count(value))
    }

    fn known(&mut self, steps: u64, value: &'a Value) -> Price<'a> {
        Price { steps: steps.saturating_add(1), size: self.size(value), known: Some(value), ..Price::default() }
    }

    fn price(&mut self, expression: &'a IdedExpr) -> Price<'a> {
        match &expression.expr {
            Expr::Literal(LiteralValue::String(text)) => Price { size: of_text(text.inner()), ..Price::scalar(0) },
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => {
                let from = self.price(&select.operand);
                let price = self.taken(from, from.known.and_then(|value| value.get(&select.field)));
                if select.test { Price::scalar(price.steps) } else { price }
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.made(list.elements.iter()),
            Expr::Map(map) => {
                let parts = map.entries.iter().filter_map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => Some([&entry.key, &entry.value]),
                    EntryExpr::StructField(_) => None,
                });
                self.made(parts.flatten())
            }
            Expr::Comprehension(inner) => self.comprehension(inner),
            Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => Price::scalar(0),
        }
    }

    fn variable(&mut self, name: &str) -> Price<'a> {
        if let Some((_, size)) = self.scope.iter().rev().find(|(known, _)| *known == name) {
            return Price { steps: 1, size: *size, element: true, ..Price::default() };
        }
        match self.variables.into_iter().find(|(known, _)| *known == name) {
            Some((_, value)) => self.known(0, value),
            None => Price::scalar(0),
        }
    }

    /// A member or an element of a value.
    fn taken(&mut self, from: Price<'a>, part: Option<&'a Value>) -> Price<'a> {
        if let Some(part) = part {
            return self.known(from.steps, part);
        }
        let copied = if from.made { from.size } else { 0 };
        Price { steps: from.steps.saturating_add(1).saturating_add(copied), known: None, ..from }
    }

    /// A value that is put together from others, which are copied.
    fn made(&mut self, parts: impl Iterator<Item = &'a IdedExpr>) -> Price<'a> {
        let mut sum = Price { steps: 1, size: 1, made: true, ..Price::default() };
        for part in parts {
            let part = self.price(part);
            sum.steps = sum.steps.saturating_add(part.steps).saturating_add(part.size);
            sum.size = sum.size.saturating_add(part.size);
            sum.element |= part.element;
        }
        sum
    }

    fn call(&mut self, call: &'a CallExpr) -> Price<'a> {
        let parts: Vec<_> = call.target.as_deref().into_iter().chain(&call.args).map(|part| self.price(part)).collect();
        let steps = parts.iter().fold(1, |sum: u64, part| sum.saturating_add(part.steps));
        let sizes = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.size));
        let element = parts.iter().any(|part| part.element);
        match (call.func_name.as_str(), parts.as_slice()) {
            (
                operators::LOGICAL_AND
                | operators::LOGICAL_OR
                | operators::LOGICAL_NOT
                | operators::NOT_STRICTLY_FALSE
                | operators::NEGATE,
                _,
            ) => Price::scalar(steps),
            (operators::CONDITIONAL, [_, one, other]) => {
                Price { steps, size: one.size.max(other.size), known: None, element, made: one.made || other.made }
            }
            (operators::EQUALS | operators::NOT_EQUALS, [one, other]) => {
                Price::scalar(steps.saturating_add(compared(one, other)))
            }
            (operators::INDEX, [from, index]) => {
                let part = from.known.and_then(|value| at(value, call.args.get(1)));
                self.taken(Price { steps: steps.saturating_add(index.size), ..*from }, part)
            }
            ("matches", _) => {
                let pattern = call.args.first().and_then(|pattern| match &pattern.expr {
                    Expr::Literal(LiteralValue::String(text)) => self.patterns.get(text.inner()),
                    _ => None,
                });
                Price::scalar(steps.saturating_add(sizes.saturating_mul(pattern.map_or(u64::MAX, |p| p.weight))))
            }
            (operators::ADD | "string", _) => Price {
                steps: steps.saturating_add(sizes),
                size: sizes.saturating_add(2),
                known: None,
                element,
                made: true,
            },
            _ => Price::scalar(steps.saturating_add(sizes)),
        }
    }

    fn comprehension(&mut self, inner: &'a ComprehensionExpr) -> Price<'a> {
        let range = self.price(&inner.iter_range);
        let rounds = match range.known {
            Some(Value::Array(list)) => list.len() as u64,
            Some(Value::Object(map)) => map.len() as u64,
            _ => range.size,
        };
        let least = self.round(inner, 1).saturating_add(ROUND).saturating_mul(rounds);
        // The range once more, because every element is copied to be a variable.
        let steps = [least, self.round(inner, range.size), range.size, 1];
        let steps = steps.into_iter().fold(range.steps, u64::saturating_add);
        let chooses = matches!(&inner.accu_init.expr, Expr::List(_));
        let size = if chooses { range.size } else { 1 };
        Price { steps, size, known: None, element: range.element, made: true }
    }

    /// One round with an element of this size. What was chosen so far is not copied: it grows in place.
    fn round(&mut self, inner: &'a ComprehensionExpr, size: u64) -> u64 {
        self.scope.extend([(inner.accu_var.as_str(), 0), (inner.iter_var.as_str(), size)]);
        let parts = [&inner.loop_cond, &inner.loop_step, &inner.result];
        let steps = parts.into_iter().fold(0, |sum: u64, part| sum.saturating_add(self.price(part).steps));
        self.scope.truncate(self.scope.len().saturating_sub(2));
        steps
    }
}

/// A comparison ends with the smaller of the two. What depends on an element is not weighed against what does not, lest
/// the cost be no longer convex.
fn compared(one: &Price<'_>, other: &Price<'_>) -> u64 {
    let fixed = [one, other].into_iter().filter(|price| !price.element).map(|price| price.size).min();
    let element = [one, other].into_iter().find(|price| price.element).map(|price| price.size);
    match (fixed, element) {
        (Some(fixed), Some(_)) if fixed <= SMALL => fixed,
        (_, Some(element)) => element,
        (fixed, None) => fixed.unwrap_or(1),
    }
}

fn at<'a>(value: &'a Value, index: Option<&IdedExpr>) -> Option<&'a Value> {
    match &index?.expr {
        Expr::Literal(LiteralValue::String(name)) => value.get(name.inner()),
        Expr::Literal(LiteralValue::Int(place)) => value.get(usize::try_from(*place.inner()).ok()?),
        _ => None,
    }
}

fn of_text(text: &str) -> u64 {
    1 + text.len() as u64 / TEXT
}

/// As deep as the reader that made the value allows, which is 128 levels.
fn count(value: &Value) -> u64 {
    match value {
        Value::String(text) => of_text(text),
        Value::Array(list) => list.iter().fold(1, |sum: u64, value| sum.saturating_add(count(value))),
        Value::Object(map) => {
            map.iter().fold(1, |sum: u64, (name, value)| sum.saturating_add(of_text(name)).saturating_add(count(value)))
        }
        _ => 1,
    }
}
