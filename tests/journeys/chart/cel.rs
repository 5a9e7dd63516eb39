//! The expressions of webhooks and admission policies, evaluated as the API server would, without one.

use std::collections::HashMap;

use kube::core::cel::KubeCelExt;
use kube::core::cel::cel::parser::Parser;
use kube::core::cel::cel::{Context, Value as Cel, to_value};
use serde_json::{Value, json};

/// A request, as far as expressions look at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    operation: String,
    subresource: Option<String>,
    username: String,
    object: Value,
    old: Value,
}

// === impl Request ===

impl Request {
    /// Somebody creates `object`.
    pub(crate) fn create(object: Value) -> Self {
        Self { operation: "CREATE".to_owned(), object, ..Self::default() }
    }

    /// Somebody makes `object` of `old`.
    pub(crate) fn update(old: Value, object: Value) -> Self {
        Self { operation: "UPDATE".to_owned(), object, old, ..Self::default() }
    }

    /// Somebody deletes `old`.
    pub(crate) fn delete(old: Value) -> Self {
        Self { operation: "DELETE".to_owned(), old, ..Self::default() }
    }

    /// At a subresource, as `eviction` is one of pods.
    #[must_use]
    pub(crate) fn at(mut self, subresource: &str) -> Self {
        self.subresource = Some(subresource.to_owned());
        self
    }

    /// By this account.
    #[must_use]
    pub(crate) fn by(mut self, username: &str) -> Self {
        username.clone_into(&mut self.username);
        self
    }

    fn context(&self) -> Context<'static> {
        let mut request = json!({"operation": self.operation, "userInfo": {"username": self.username}});
        // Absent, not empty, where the object itself is meant: so the API server has it.
        if let Some(subresource) = &self.subresource {
            request["subResource"] = json!(subresource);
        }
        let mut context = Context::default().with_all();
        for (name, value) in [("request", &request), ("object", &self.object), ("oldObject", &self.old)] {
            context.add_variable_from_value(name, to_value(value).expect("JSON is a CEL value"));
        }
        context
    }
}

// === expressions ===

fn evaluate(expression: &str, context: &Context) -> Result<Cel, String> {
    let parser = Parser::new().enable_optional_syntax(true);
    let parsed = parser.parse(&indexed(expression)).map_err(|error| format!("{expression}: {error}"))?;
    Cel::resolve(&parsed, context).map_err(|error| format!("{expression}: {error}"))
}

/// The same with `a[?'b']` for `a.?b`, because the crate fails where an optional field is absent, and not where a key is.
fn indexed(expression: &str) -> String {
    let mut parts = expression.split(".?");
    let mut indexed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(part.len());
        let (field, rest) = part.split_at(end);
        indexed.extend(["[?'", field, "']", rest]);
    }
    indexed
}

fn holds(expression: &str, context: &Context) -> Result<bool, String> {
    match evaluate(expression, context)? {
        Cel::Bool(holds) => Ok(holds),
        other => Err(format!("{expression}: neither true nor false but {other:?}")),
    }
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}

/// Whether all `matchConditions` hold; the API server refuses the request where one cannot be evaluated.
pub(crate) fn matches(conditions: &Value, request: &Request) -> Result<bool, String> {
    let context = request.context();
    for condition in conditions.as_array().into_iter().flatten() {
        if !holds(text(condition, "expression"), &context)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the labels of a namespace satisfy a selector's `matchExpressions`.
pub(crate) fn selects(selector: &Value, labels: &HashMap<&str, &str>) -> bool {
    selector["matchExpressions"].as_array().into_iter().flatten().all(|expression| {
        let label = labels.get(text(expression, "key"));
        let named = expression["values"].as_array().into_iter().flatten().any(|value| value.as_str() == label.copied());
        match text(expression, "operator") {
            "In" => named,
            "NotIn" => !named,
            other => panic!("the selector has the operator {other}, which this test does not know"),
        }
    })
}

/// What a `ValidatingAdmissionPolicy` says against a request.
pub(crate) fn denial(policy: &Value, request: &Request) -> Option<String> {
    let spec = &policy["spec"];
    match matches(&spec["matchConditions"], request) {
        Ok(true) => {}
        Ok(false) => return None,
        Err(error) => return Some(error),
    }
    let mut context = request.context();
    let mut variables = HashMap::new();
    for variable in spec["variables"].as_array().into_iter().flatten() {
        // One that cannot be evaluated is missed only by an expression that needs it.
        if let Ok(value) = evaluate(text(variable, "expression"), &context) {
            variables.insert(text(variable, "name").to_owned(), value);
        }
        context.add_variable_from_value("variables", variables.clone());
    }
    spec["validations"].as_array().into_iter().flatten().find_map(|validation| {
        match holds(text(validation, "expression"), &context) {
            Ok(true) => None,
            Ok(false) => Some(message(validation, &context)),
            Err(error) => Some(error),
        }
    })
}

fn message(validation: &Value, context: &Context) -> String {
    let Some(expression) = validation["messageExpression"].as_str() else {
        return text(validation, "message").to_owned();
    };
    match evaluate(expression, context) {
        Ok(Cel::String(message)) => message.to_string(),
        other => panic!("{expression} gives no message: {other:?}"),
    }
}
