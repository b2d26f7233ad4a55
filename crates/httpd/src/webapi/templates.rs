//! Templates: keeping them, and making messages of them.

use super::Call;
use mox_base::Timestamp;
use mox_store::account::Template;
use mox_webapi::template::{
    self, TemplateEntry, TemplateError, TemplateGetResponse, TemplateListRequest, TemplateListResponse, TemplateRequest,
    TemplateSetRequest, Within,
};
use mox_webapi::{Empty, Error, ErrorCode, SendRequest};

/// Templates in a page, usually and at most.
const PAGE: u64 = 100;

impl Call {
    pub(super) async fn template_set(&self, request: TemplateSetRequest) -> Result<Empty, Error> {
        let TemplateSetRequest { name, subject, text, html } = request;
        check_name(&name)?;
        if text.is_empty() && html.is_empty() {
            return Err(Error::new(ErrorCode::MissingBody, "at least one of Text and HTML must have content"));
        }
        if subject.chars().any(char::is_control) || text.contains('\0') || html.contains('\0') {
            return Err(Error::user("Subject has control characters, or a text has NUL characters"));
        }
        template::variables(&[&subject, &text, &html]).map_err(|e| refused(&e))?;
        let kept = self.account().await?.set_template(Template { name, subject, text, html }).await;
        if kept.map_err(|e| self.server("keeping template", &e))? { Ok(Empty {}) } else { Err(Error::user("too many templates")) }
    }

    pub(super) async fn template_get(&self, request: TemplateRequest) -> Result<TemplateGetResponse, Error> {
        let (found, changed) = self.template(&request.name).await?;
        let Template { name, subject, text, html } = found;
        let variables = places(&[&subject, &text, &html]);
        Ok(TemplateGetResponse { name, subject, text, html, variables, changed: changed.into() })
    }

    pub(super) async fn template_list(&self, request: TemplateListRequest) -> Result<TemplateListResponse, Error> {
        let limit = u64::try_from(request.limit).ok().filter(|n| *n > 0).unwrap_or(PAGE).min(PAGE);
        let listed = self.account().await?.read(move |tx| tx.templates(&request.after, limit)).await;
        let listed = listed.map_err(|e| self.server("listing templates", &e))?;
        let entry = |(template, changed): (Template, Timestamp)| {
            let Template { name, subject, text, html } = template;
            let variables = places(&[&subject, &text, &html]);
            TemplateEntry { name, subject, variables, changed: changed.into() }
        };
        Ok(TemplateListResponse { templates: listed.into_iter().map(entry).collect() })
    }

    pub(super) async fn template_remove(&self, request: TemplateRequest) -> Result<Empty, Error> {
        let removed = self.account().await?.remove_template(&request.name).await;
        if removed.map_err(|e| self.server("removing template", &e))? { Ok(Empty {}) } else { Err(not_found(&request.name)) }
    }

    /// Fills in the subject and texts of a request that names a template.
    pub(super) async fn fill_in(&self, request: &mut SendRequest) -> Result<(), Error> {
        if request.template.is_empty() {
            let unused = !request.template_data.is_empty();
            return if unused { Err(Error::user("TemplateData is for messages with a Template")) } else { Ok(()) };
        }
        if ![&request.subject, &request.text, &request.html].into_iter().all(String::is_empty) {
            return Err(Error::user("Subject, Text and HTML come from the template, and can't be given with it"));
        }
        let (found, _) = self.template(&request.template).await?;
        let fill = |part: &str, into| template::fill(part, &request.template_data, into).map_err(|e| refused(&e));
        let filled = (fill(&found.subject, Within::Text)?, fill(&found.text, Within::Text)?, fill(&found.html, Within::Html)?);
        (request.subject, request.text, request.html) = filled;
        Ok(())
    }

    async fn template(&self, name: &str) -> Result<(Template, Timestamp), Error> {
        let wanted = name.to_owned();
        let found = self.account().await?.read(move |tx| tx.template(&wanted)).await;
        found.map_err(|e| self.server("reading template", &e))?.ok_or_else(|| not_found(name))
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let text = "the name of a template has 1 to 100 letters, digits, dots, dashes and underscores";
    if template::is_name(name) { Ok(()) } else { Err(Error::user(text)) }
}

/// They were found to be well-formed when the template was set.
fn places(parts: &[&str]) -> Vec<String> {
    template::variables(parts).unwrap_or_default()
}

fn refused(error: &TemplateError) -> Error {
    Error::user(error.to_string())
}

fn not_found(name: &str) -> Error {
    Error::new(ErrorCode::TemplateNotFound, format!("no template {name:?}"))
}
