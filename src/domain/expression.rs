//! Expressions over the predicate of an attestation, in CEL (Common Expression Language).
//!
//! ```text
//!   text ── bounds ── parse ── walk: what it names, calls and repeats ──► Expression      when a policy is read
//!   Expression + predicate ── price ── evaluate ──► true | false | why it has no value   when an image is judged
//! ```
//! Whoever may write a policy writes expressions, so none may take the time or memory of others. There is no way to stop
//! an evaluation; instead, what makes one expensive is not in the language: comprehensions answer (`all`, `exists`,
//! `exists_one`) or choose (`filter`) and never build, few stand within each other, patterns are literals that were
//! compiled with a bounded size, and the cost that is left is counted from the predicate before it starts.

mod price;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::{Context, ExecutionError, Program, Value};
use regex::{Regex, RegexBuilder};

use self::price::Pricing;

/// Bytes of an expression.
pub const MAX_EXPRESSION: usize = 2048;
/// Brackets within each other in the text.
const MAX_BRACKETS: usize = 16;
/// Levels of the parsed expression. A level is a few frames on the stack.
const MAX_DEPTH: usize = 64;
/// Parts of the parsed expression.
const MAX_NODES: usize = 512;
/// Comprehensions within each other.
const MAX_NESTED: u32 = 2;
/// Different patterns, and the memory of each once compiled.
const MAX_PATTERNS: usize = 16;
const MAX_COMPILED: usize = 64 * 1024;
/// Smallest size of a compiled pattern that is told from larger ones.
const MIN_COMPILED: usize = 2 * 1024;
/// Bytes of a compiled pattern that, at worst, cost a step for each 16 bytes of text.
const COMPILED_PER_STEP: usize = 64;
/// Steps of one evaluation, at most; ten million take about a second.
const MAX_STEPS: u64 = 4_000_000;
/// Steps of all evaluations for one image.
const MAX_STEPS_TOGETHER: u64 = 10 * MAX_STEPS;
/// Stack for the parser, which needs many frames per bracket.
const PARSER_STACK: usize = 16 << 20;

/// The variables.
pub const VARIABLES: [&str; 3] = ["predicate", "predicateType", "subject"];
const FUNCTIONS: [&str; 11] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "int",
    "uint",
    "double",
    "string",
    "bool",
    operators::NOT_STRICTLY_FALSE,
];
const OPERATORS: [&str; 18] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::IN,
];

/// Of these, what gives something else than true or false.
const NEVER_BOOLEAN: [&str; 11] = [
    "size",
    "int",
    "uint",
    "double",
    "string",
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::NEGATE,
];

/// A compiled expression. Cheap to clone; equal when the texts are.
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

struct Compiled {
    source: String,
    program: Program,
    patterns: Arc<HashMap<String, Pattern>>,
}

struct Pattern {
    regex: Regex,
    /// Steps for each 16 bytes of text.
    weight: u64,
}

/// What the evaluations for one image may still cost.
#[derive(Debug)]
pub struct Budget(AtomicU64);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU64::new(MAX_STEPS_TOGETHER))
    }
}

impl Budget {
    /// Takes so much away, or nothing when there is less.
    fn take(&self, steps: u64) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(steps)).is_ok()
    }
}

impl Expression {
    /// Reads an expression. The error says what is wrong, in lower case, without the field's name.
    pub fn new(source: &str) -> Result<Self, String> {
        if source.trim().is_empty() || source.len() > MAX_EXPRESSION {
            return Err(format!("must have 1 to {MAX_EXPRESSION} bytes"));
        }
        if brackets(source) > MAX_BRACKETS {
            return Err(format!("more than {MAX_BRACKETS} brackets within each other"));
        }
        // The parser descends once per bracket and operator: on a stack that has room for any text of this length. What
        // it panics at, should it ever, is no expression.
        let text = source.to_owned();
        let thread = std::thread::Builder::new().name("expression".to_owned()).stack_size(PARSER_STACK);
        let parsed =
            thread.spawn(move || parse(&text)).map_err(|_| "cannot be read now: no thread for it".to_owned())?;
        let compiled = parsed.join().map_err(|_| "cannot be parsed".to_owned())??;
        Ok(Self(Arc::new(compiled)))
    }

    /// The text it was made from.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Whether its form shows that it is true of no predicate: it is `false`, or no truth value at all.
    pub fn is_never_true(&self) -> bool {
        match &self.0.program.expression().expr {
            Expr::Literal(LiteralValue::Boolean(value)) => !*value.inner(),
            Expr::Literal(_) | Expr::List(_) | Expr::Map(_) => true,
            Expr::Call(call) => NEVER_BOOLEAN.contains(&call.func_name.as_str()),
            _ => false,
        }
    }

    /// Whether it is true of an attestation; what it costs is taken from the budget. The error says why it has no value,
    /// which is never a pass.
    pub fn holds(
        &self,
        predicate: &serde_json::Value,
        predicate_type: &str,
        subject: &serde_json::Value,
        budget: &Budget,
    ) -> Result<bool, String> {
        let kind = serde_json::Value::String(predicate_type.to_owned());
        let variables = [("predicate", predicate), ("predicateType", &kind), ("subject", subject)];
        let steps = Pricing::new(variables, &self.0.patterns).steps(self.0.program.expression());
        if steps > MAX_STEPS {
            return Err(format!(
                "the predicate is too large for this expression ({steps} steps, and {MAX_STEPS} are allowed): compare \
                 less of it in comprehensions"
            ));
        }
        if !budget.take(steps) {
            return Err(format!(
                "the expressions for this image take more than {MAX_STEPS_TOGETHER} steps together: there are too many \
                 attestations"
            ));
        }
        // Evaluated inside a closure that a panic does not leave: to the caller it is an expression without a value.
        let value = catch_unwind(AssertUnwindSafe(|| {
            let mut context = Context::default();
            let patterns = self.0.patterns.clone();
            let matches = move |text: cel::extractors::This<Arc<String>>, pattern: Arc<String>| {
                patterns
                    .get(pattern.as_str())
                    .map(|pattern| pattern.regex.is_match(text.0.as_str()))
                    .ok_or_else(|| ExecutionError::function_error("matches", "a pattern that was not compiled"))
            };
            context.add_function("matches", matches).map_err(|error| error.to_string())?;
            context.add_variable_from_value("predicate", convert(predicate));
            context.add_variable_from_value("predicateType", predicate_type.to_owned());
            context.add_variable_from_value("subject", convert(subject));
            self.0.program.execute(&context).map_err(|error| told(&error))
        }));
        match value {
            Ok(Ok(Value::Bool(holds))) => Ok(holds),
            Ok(Ok(_)) => Err("the expression gives neither true nor false".to_owned()),
            Ok(Err(why)) => Err(why),
            Err(_) => Err("the expression could not be evaluated".to_owned()),
        }
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({:?})", self.0.source)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

impl Eq for Expression {}

/// The deepest nesting of brackets, inside of strings too, which counts too much and never too little.
fn brackets(source: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => {
                open += 1;
                most = most.max(open);
            }
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    most
}

fn parse(source: &str) -> Result<Compiled, String> {
    let program = Program::compile(source).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("syntax error");
        format!("is not a CEL expression: {}", first.trim().chars().take(200).collect::<String>())
    })?;
    let mut walk = Walk::default();
    walk.expression(program.expression(), 0, 0)?;
    let patterns = walk.patterns.into_iter().map(|pattern| compile(&pattern).map(|compiled| (pattern, compiled)));
    let patterns = Arc::new(patterns.collect::<Result<_, String>>()?);
    Ok(Compiled { source: source.to_owned(), program, patterns })
}

/// Compiles a pattern within the smallest bound that it fits: the larger it is the slower it may be.
fn compile(pattern: &str) -> Result<Pattern, String> {
    let mut bound = MIN_COMPILED;
    while bound <= MAX_COMPILED {
        if let Ok(regex) = RegexBuilder::new(pattern).size_limit(bound).dfa_size_limit(MAX_COMPILED).build() {
            return Ok(Pattern { regex, weight: (bound / COMPILED_PER_STEP) as u64 });
        }
        bound *= 2;
    }
    Err("a pattern of matches is not a regular expression, or is too large once compiled".to_owned())
}

/// Goes through a parsed expression and refuses what could be expensive or cannot be evaluated.
#[derive(Default)]
struct Walk {
    nodes: usize,
    /// Variables of the comprehensions around.
    scope: Vec<String>,
    patterns: BTreeSet<String>,
}

impl Walk {
    fn expression(&mut self, expression: &IdedExpr, depth: usize, nested: u32) -> Result<(), String> {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err("too complex: make several requirements of it".to_owned());
        }
        match &expression.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.expression(&select.operand, depth + 1, nested),
            Expr::Call(call) => self.call(call, depth, nested),
            Expr::List(list) => list.elements.iter().try_for_each(|e| self.expression(e, depth + 1, nested)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.expression(&entry.key, depth + 1, nested)?;
                    self.expression(&entry.value, depth + 1, nested)
                }
                EntryExpr::StructField(_) => Err("message literals are not supported".to_owned()),
            }),
            Expr::Comprehension(inner) => self.comprehension(inner, depth, nested),
            Expr::Struct(_) | Expr::Unspecified => Err("message literals are not supported".to_owned()),
        }
    }

    fn variable(&self, name: &str) -> Result<(), String> {
        if VARIABLES.contains(&name) || self.scope.iter().any(|known| known == name) {
            return Ok(());
        }
        let name: String = name.chars().take(64).flat_map(char::escape_debug).collect();
        Err(format!("there is no variable {name}: the variables are {}", VARIABLES.join(", ")))
    }

    fn call(&mut self, call: &CallExpr, depth: usize, nested: u32) -> Result<(), String> {
        let name = call.func_name.as_str();
        let operator = OPERATORS.contains(&name);
        if !operator && !FUNCTIONS.contains(&name) {
            let name: String = name.chars().take(64).flat_map(char::escape_debug).collect();
            return Err(format!("the function {name} is not supported"));
        }
        if name == "matches" {
            self.pattern(call)?;
        }
        if let Some(target) = &call.target {
            self.expression(target, depth + 1, nested)?;
        }
        call.args.iter().try_for_each(|argument| self.expression(argument, depth + 1, nested))
    }

    fn pattern(&mut self, call: &CallExpr) -> Result<(), String> {
        let (Some(_), [IdedExpr { expr: Expr::Literal(LiteralValue::String(pattern)), .. }]) =
            (&call.target, call.args.as_slice())
        else {
            return Err("matches must be written text.matches(\"pattern\"), with the pattern as a literal".to_owned());
        };
        self.patterns.insert(pattern.inner().to_owned());
        if self.patterns.len() > MAX_PATTERNS {
            return Err(format!("more than {MAX_PATTERNS} patterns"));
        }
        Ok(())
    }

    fn comprehension(&mut self, inner: &ComprehensionExpr, depth: usize, nested: u32) -> Result<(), String> {
        let chooses = matches!(&inner.accu_init.expr, Expr::List(_));
        if inner.iter_var2.is_some() || (chooses && builds(&inner.loop_step, &inner.iter_var)) {
            return Err("map is not supported: use all, exists, exists_one or filter".to_owned());
        }
        if nested == MAX_NESTED {
            return Err(format!("more than {MAX_NESTED} comprehensions within each other"));
        }
        self.expression(&inner.iter_range, depth + 1, nested)?;
        self.scope.extend([inner.iter_var.clone(), inner.accu_var.clone()]);
        for part in [&inner.accu_init, &inner.loop_cond, &inner.loop_step, &inner.result] {
            self.expression(part, depth + 1, nested + 1)?;
        }
        self.scope.truncate(self.scope.len().saturating_sub(2));
        Ok(())
    }
}

/// Whether a step adds anything but the element itself to its list.
fn builds(step: &IdedExpr, element: &str) -> bool {
    let Expr::Call(call) = &step.expr else { return true };
    let [_, added, _] = call.args.as_slice() else { return true };
    let Expr::Call(added) = &added.expr else { return true };
    let [_, list] = added.args.as_slice() else { return true };
    let Expr::List(list) = &list.expr else { return true };
    let [IdedExpr { expr: Expr::Ident(name), .. }] = list.elements.as_slice() else { return true };
    name != element
}

/// Whole numbers as `int` as long as they fit, as Kubernetes has them; all others as `double`.
fn convert(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::String(Arc::new(text.clone())),
        serde_json::Value::Array(list) => Value::List(Arc::new(list.iter().map(convert).collect::<Vec<_>>())),
        serde_json::Value::Object(map) => {
            Value::from(map.iter().map(|(name, value)| (name.clone(), convert(value))).collect::<HashMap<_, _>>())
        }
    }
}

/// Short, and without the values, which the signer chose.
fn told(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => {
            let key: String = key.chars().take(64).flat_map(char::escape_debug).collect();
            format!("the expression has no value: there is no field {key}")
        }
        ExecutionError::NoSuchOverload(_) | ExecutionError::UnexpectedType { .. } => {
            "the expression has no value: a field is of another type".to_owned()
        }
        ExecutionError::IndexOutOfBounds(_) => "the expression has no value: a list is shorter".to_owned(),
        _ => "the expression has no value for this predicate".to_owned(),
    }
}

#[cfg(test)]
mod tests;
