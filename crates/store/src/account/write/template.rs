//! Templates of messages that an account's programs send.
//!
//! They are kept with the account's mail, so that they go where it goes. What is in them, and how they are filled in, is for those to know who send.

use super::WriteTx;
use crate::account::{Account, ReadTx};
use crate::db;
use crate::error::Error;
use crate::params;
use mox_base::Timestamp;

/// The most templates of an account.
pub const MAX_TEMPLATES: u64 = 1000;

/// A template of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// What it is called, unique in the account.
    pub name: String,
    /// The subject.
    pub subject: String,
    /// The plain text; may be empty.
    pub text: String,
    /// The HTML; may be empty.
    pub html: String,
}

impl WriteTx<'_> {
    /// Keeps a template, instead of one of the same name; false if there are [`MAX_TEMPLATES`] others.
    ///
    /// # Errors
    /// The database failed.
    pub fn set_template(&mut self, template: &Template) -> Result<bool, Error> {
        let Template { name, subject, text, html } = template;
        self.remove_template(name)?;
        let account = self.account();
        let count = self.tx.query_row("SELECT count(*) FROM template WHERE account_id = $1", params![account], |r| r.int(0))?;
        if u64::try_from(count).unwrap_or(u64::MAX) >= MAX_TEMPLATES {
            return Ok(false);
        }
        let sql = "INSERT INTO template (account_id, name, subject, body, html, changed) VALUES ($1, $2, $3, $4, $5, $6)";
        self.tx.exec(sql, params![account, name, subject, text, html, self.now])?;
        Ok(true)
    }

    /// Forgets a template; false if there is none of this name.
    ///
    /// # Errors
    /// The database failed.
    pub fn remove_template(&mut self, name: &str) -> Result<bool, Error> {
        Ok(self.tx.exec("DELETE FROM template WHERE account_id = $1 AND name = $2", params![self.account(), name])? > 0)
    }
}

impl ReadTx<'_> {
    /// The template of a name, and when it was last changed.
    ///
    /// # Errors
    /// The database failed.
    pub fn template(&self, name: &str) -> Result<Option<(Template, Timestamp)>, Error> {
        Ok(self.templates_where(" AND name = $2", params![self.account(), name])?.pop())
    }

    /// A page of the templates by name, each with when it was last changed: those after a name, at most so many.
    ///
    /// # Errors
    /// The database failed.
    pub fn templates(&self, after: &str, limit: u64) -> Result<Vec<(Template, Timestamp)>, Error> {
        self.templates_where(" AND name > $2 ORDER BY name LIMIT $3", params![self.account(), after, limit])
    }

    fn templates_where(&self, rest: &str, params: &[db::Param<'_>]) -> Result<Vec<(Template, Timestamp)>, Error> {
        let mut found = Vec::new();
        let sql = format!("SELECT name, subject, body, html, changed FROM template WHERE account_id = $1{rest}");
        self.tx.query(&sql, params, |r| {
            let column = |i| r.text(i).map(str::to_owned);
            let template = Template { name: column(0)?, subject: column(1)?, text: column(2)?, html: column(3)? };
            found.push((template, Timestamp::from_micros(r.int(4)?)));
            Ok::<_, db::Error>(())
        })?;
        Ok(found)
    }
}

impl Account {
    /// As [`WriteTx::set_template`], by itself.
    ///
    /// # Errors
    /// The database failed; so below.
    pub async fn set_template(&self, template: Template) -> Result<bool, Error> {
        self.write(move |tx| tx.set_template(&template)).await
    }

    /// As [`WriteTx::remove_template`], by itself.
    ///
    /// # Errors
    /// As above.
    pub async fn remove_template(&self, name: &str) -> Result<bool, Error> {
        let name = name.to_owned();
        self.write(move |tx| tx.remove_template(&name)).await
    }
}
