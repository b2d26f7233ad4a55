//! The API for programs: an OpenAPI 3.1 document, webhooks included.

use crate::error::{ErrorCode, body_object};
use crate::method::{METHODS, Method, ResponseKind};
use crate::object::{Describe, Object, Type};
use crate::scope::Scope;
use crate::webhook::{Incoming, Outgoing};
use serde_json::{Map, Value, json};

/// The name of the document next to the methods.
pub const FILE_NAME: &str = "openapi.json";

/// The document, of a server of this version.
pub fn document(version: &str) -> Value {
    let mut paths = Map::new();
    let mut objects = Vec::new();
    for method in &METHODS {
        paths.insert(format!("/{}", method.name), json!({"post": operation(method)}));
        Type::Object((method.request)()).objects(&mut objects);
        if let ResponseKind::Json(response) = method.response {
            Type::Object(response()).objects(&mut objects);
        }
    }
    for object in [body_object(), Outgoing::object(), Incoming::object()] {
        Type::Object(object).objects(&mut objects);
    }
    let schemas: Map<String, Value> = objects.into_iter().map(|object| (object.name.to_owned(), schema(object))).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "mox webapi",
            "version": version,
            "summary": "Send mail and work with received mail",
            "description": "Each method takes a form whose field `request` is a JSON object. Names of fields match in any case, null and \
                            absent are the zero value, unknown fields are an error. Responses may get more fields.",
        },
        "servers": [{"url": "/webapi/v0", "description": "The default path of the listener's WebAPIHTTP and WebAPIHTTPS"}],
        "security": [{"basic": []}],
        "paths": paths,
        "webhooks": {
            "outgoing": hook(Outgoing::object()),
            "incoming": hook(Incoming::object()),
        },
        "components": {
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "An email address of the account, and its password or an API key"},
            },
            "schemas": schemas,
        },
    })
}

fn reference(object: &Object) -> Value {
    json!({"$ref": format!("#/components/schemas/{}", object.name)})
}

fn operation(method: &Method) -> Value {
    let request = (method.request)();
    let fields = json!({"request": reference(request)});
    let form = json!({
        "schema": {"type": "object", "properties": fields, "required": ["request"]},
        "encoding": {"request": {"contentType": "application/json"}},
    });
    let mut multipart = form.clone();
    let mut parameters = Vec::new();
    if method.name == "Send" {
        for name in ["alternativefile", "inlinefile", "attachedfile"] {
            multipart["schema"]["properties"][name] =
                json!({"type": "array", "items": {"type": "string", "contentMediaType": "application/octet-stream"}});
        }
    }
    if method.scope == Scope::Send {
        parameters.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "required": false,
            "description": "A key of your choice: the same request with the same key within 24 hours gets the same answer, and is sent once.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }));
    }
    let ok = match method.response {
        ResponseKind::Json(response) => json!({"description": "Done", "content": {"application/json": {"schema": reference(response())}}}),
        ResponseKind::Bytes { media_type, about } => json!({"description": about, "content": {media_type: {}}}),
    };
    let codes = method.all_errors().filter(|code| *code != ErrorCode::OutOfScope).map(ErrorCode::as_str).collect::<Vec<_>>();
    let error = |codes: &[&str]| json!({"allOf": [reference(body_object()), {"properties": {"Code": {"enum": codes}}}]});
    let forbidden = error(&[ErrorCode::OutOfScope.as_str()]);
    json!({
        "operationId": method.name,
        "summary": method.summary,
        "description": method.about.replace('\n', "\n\n"),
        "parameters": parameters,
        "requestBody": {
            "required": true,
            "content": {"application/x-www-form-urlencoded": form, "multipart/form-data": multipart},
        },
        "responses": {
            "200": ok,
            "400": {"description": "The call failed", "content": {"application/json": {"schema": error(&codes)}}},
            "401": {"description": "Credentials are missing or wrong, or login is disabled"},
            "403": {"description": "The API key isn't for this", "content": {"application/json": {"schema": forbidden}}},
            "429": {"description": "Too many requests, or too many failed logins, from the address or its network"},
        },
    })
}

fn hook(object: &Object) -> Value {
    let content = json!({"application/json": {"schema": reference(object)}});
    json!({"post": {
        "summary": object.about(),
        "requestBody": {"required": true, "content": content},
        "responses": {"200": {"description": "Received; with other answers, the call is made again later"}},
    }})
}

fn schema(object: &'static Object) -> Value {
    let mut properties = Map::new();
    for field in object.fields {
        let mut value = of_type(&(field.ty)());
        if let Some(map) = value.as_object_mut() {
            map.insert("description".to_owned(), field.about().into());
        }
        properties.insert(field.name.to_owned(), value);
    }
    json!({"type": "object", "description": object.about(), "properties": properties})
}

fn of_type(ty: &Type) -> Value {
    match ty {
        Type::String => json!({"type": "string"}),
        Type::Choice(choices) => json!({"type": "string", "enum": choices}),
        Type::Bool => json!({"type": "boolean"}),
        Type::Integer => json!({"type": "integer", "format": "int64"}),
        Type::Time => json!({"type": "string", "format": "date-time"}),
        Type::Pair => json!({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}),
        Type::Nullable(inner) => json!({"oneOf": [of_type(inner), {"type": "null"}]}),
        Type::List(inner) => json!({"type": "array", "items": of_type(inner)}),
        Type::Map(inner) => json!({"type": "object", "additionalProperties": of_type(inner)}),
        Type::Object(object) => json!({"allOf": [reference(object)]}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All references in a document.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|v| references(v, found));
            }
            Value::Array(list) => list.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }

    #[test]
    fn complete_and_closed() {
        let document = document("1.2.3");
        assert_eq!(document["info"]["version"], "1.2.3");
        for method in &METHODS {
            assert_eq!(document["paths"][format!("/{}", method.name)]["post"]["operationId"], method.name);
        }
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        assert_eq!(document["components"]["schemas"]["Structure"]["properties"]["Parts"]["type"], "array");
        assert_eq!(document["components"]["schemas"]["Outgoing"]["properties"]["Event"]["enum"][0], "delivered");
    }
}
