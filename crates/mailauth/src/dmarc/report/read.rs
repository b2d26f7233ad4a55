//! Reading reports of others: XML from anyone, so with limits on everything, and without expanding entities.
//!
//! Elements are known by their path, whatever their namespace and order. Unknown ones are skipped, as RFC 9990 §3.2 wants of
//! extensions. A document type is skipped, so the only entities are those that XML itself has; others stay as they are written.

use super::super::record::{Alignment, Policy};
use super::{Disposition, DkimAuth, Feedback, Metadata, Published, Reason, Row, SpfAuth};
use crate::unpack::MAX_REPORT;
use mox_base::Timestamp;
use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesRef, Event};

/// Elements within elements.
const MAX_DEPTH: usize = 16;
/// Rows of a report. One of 20 MiB has about 40,000.
const MAX_ROWS: usize = 100_000;
/// Reasons, signatures and the like of one row, RFC 9990 §3.1.3; more are dropped. Also errors of a report.
const MAX_OF_ROW: usize = 100;
/// Bytes of a text; the rest is dropped.
const MAX_TEXT: usize = 1024;

/// Why XML is no report.
#[derive(Debug, thiserror::Error)]
pub enum XmlError {
    /// It isn't XML.
    #[error("bad xml: {0}")]
    Syntax(#[from] quick_xml::Error),
    /// It is something else, or only the beginning.
    #[error("not a whole dmarc report")]
    NoReport,
    /// Elements are nested too deeply, or there are too many, or too much of it.
    #[error("xml too large")]
    TooLarge,
    /// A number that is none.
    #[error("bad {0} in dmarc report")]
    Number(&'static str),
}

/// Reads a report.
pub(super) fn feedback(xml: &[u8]) -> Result<Feedback, XmlError> {
    let reading = read(xml, "")?;
    if !reading.complete {
        return Err(XmlError::NoReport);
    }
    let Reading { metadata, published, rows, begin, end, .. } = reading;
    let (Some(begin), Some(end)) = (begin, end) else { return Err(XmlError::Number("date range")) };
    Ok(Feedback { metadata: Metadata { begin, end, ..metadata }, published, rows })
}

impl Row {
    /// Reads what [`Row::to_xml`] wrote.
    ///
    /// # Errors
    /// See [`XmlError`].
    pub fn from_xml(xml: &str) -> Result<Self, XmlError> {
        read(xml.as_bytes(), "feedback")?.rows.pop().ok_or(XmlError::NoReport)
    }
}

impl Published {
    /// Reads what [`Published::to_xml`] wrote.
    ///
    /// # Errors
    /// See [`XmlError`].
    pub fn from_xml(xml: &str) -> Result<Self, XmlError> {
        Ok(read(xml.as_bytes(), "feedback")?.published)
    }
}

#[derive(Default)]
struct Reading {
    metadata: Metadata,
    published: Published,
    rows: Vec<Row>,
    begin: Option<Timestamp>,
    end: Option<Timestamp>,
    complete: bool,
}

/// Reads elements below `root`, which is a path.
fn read(xml: &[u8], root: &str) -> Result<Reading, XmlError> {
    if xml.len() > MAX_REPORT {
        return Err(XmlError::TooLarge);
    }
    let mut reader = Reader::from_reader(xml);
    reader.config_mut().expand_empty_elements = true;
    reader.config_mut().allow_dangling_amp = true;
    let mut reading = Reading::default();
    let (mut path, mut depth, mut text) = (root.to_owned(), 0_usize, String::new());
    loop {
        match reader.read_event()? {
            Event::Start(element) => {
                depth = depth.saturating_add(1);
                if depth > MAX_DEPTH {
                    return Err(XmlError::TooLarge);
                }
                if !path.is_empty() {
                    path.push('/');
                }
                // Only known names matter, and those are short.
                let name = element.local_name();
                path.push_str(std::str::from_utf8(name.as_ref()).ok().filter(|name| name.len() <= 32).unwrap_or("?"));
                text.clear();
                reading.open(&path)?;
            }
            Event::End(_) => {
                reading.close(&path, text.trim())?;
                text.clear();
                path.truncate(path.rfind('/').unwrap_or(0));
                depth = depth.saturating_sub(1);
            }
            Event::Text(more) => push(&mut text, &String::from_utf8_lossy(&more)),
            Event::CData(more) => push(&mut text, &String::from_utf8_lossy(&more)),
            Event::GeneralRef(entity) => reference(&mut text, &entity),
            Event::Eof => break,
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    if depth > 0 { Err(XmlError::NoReport) } else { Ok(reading) }
}

fn push(text: &mut String, more: &str) {
    let room = MAX_TEXT.saturating_sub(text.len());
    text.push_str(more.get(..more.floor_char_boundary(room)).unwrap_or_default());
}

/// One of the five entities that XML has, or a character by its number; what else there is stays unresolved.
fn reference(text: &mut String, entity: &BytesRef<'_>) {
    let name = String::from_utf8_lossy(entity);
    match (resolve_xml_entity(&name), entity.resolve_char_ref()) {
        (Some(known), _) => push(text, known),
        (None, Ok(Some(c))) => push(text, c.encode_utf8(&mut [0; 4])),
        _ => push(text, &format!("&{name};")),
    }
}

impl Reading {
    /// An element begins.
    fn open(&mut self, path: &str) -> Result<(), XmlError> {
        let Some(place) = path.strip_prefix("feedback/record") else { return Ok(()) };
        if place.is_empty() {
            if self.rows.len() >= MAX_ROWS {
                return Err(XmlError::TooLarge);
            }
            self.rows.push(Row { count: 1, ..Row::default() });
        }
        let Some(row) = self.rows.last_mut() else { return Ok(()) };
        match place {
            "/row/policy_evaluated/reason" => add(&mut row.reasons, Reason::default()),
            "/auth_results/dkim" => add(&mut row.dkim, DkimAuth::default()),
            "/auth_results/spf" => add(&mut row.spf, SpfAuth::default()),
            _ => {}
        }
        Ok(())
    }

    /// An element ends that had this text.
    fn close(&mut self, path: &str, text: &str) -> Result<(), XmlError> {
        if let Some((Some(row), place)) = path.strip_prefix("feedback/record/").map(|place| (self.rows.last_mut(), place)) {
            return of_row(row, place, text);
        }
        let seconds = |what| text.parse::<i64>().map(Timestamp::from_secs).map_err(|_| XmlError::Number(what));
        let owned = || text.to_owned();
        match path {
            "feedback" => self.complete = true,
            "feedback/report_metadata/org_name" => self.metadata.organization = owned(),
            "feedback/report_metadata/email" => self.metadata.email = owned(),
            "feedback/report_metadata/extra_contact_info" => self.metadata.extra_contact = owned(),
            "feedback/report_metadata/report_id" => self.metadata.id = owned(),
            "feedback/report_metadata/error" => add(&mut self.metadata.errors, owned()),
            "feedback/report_metadata/generator" => self.metadata.generator = owned(),
            "feedback/report_metadata/date_range/begin" => self.begin = Some(seconds("begin")?),
            "feedback/report_metadata/date_range/end" => self.end = Some(seconds("end")?),
            "feedback/policy_published/domain" => self.published.domain = owned(),
            "feedback/policy_published/adkim" => self.published.dkim_alignment = Alignment::of_letter(text),
            "feedback/policy_published/aspf" => self.published.spf_alignment = Alignment::of_letter(text),
            "feedback/policy_published/p" => self.published.policy = Policy::of_name(text).unwrap_or_default(),
            "feedback/policy_published/sp" => self.published.subdomain_policy = Policy::of_name(text),
            "feedback/policy_published/np" => self.published.nonexistent_policy = Policy::of_name(text),
            "feedback/policy_published/pct" => self.published.percentage = text.parse().ok().filter(|n| *n <= 100),
            "feedback/policy_published/fo" => self.published.failure_options = owned(),
            "feedback/policy_published/testing" => self.published.testing = text.eq_ignore_ascii_case("y"),
            _ => {}
        }
        Ok(())
    }
}

fn of_row(row: &mut Row, place: &str, text: &str) -> Result<(), XmlError> {
    let owned = || text.to_owned();
    let passes = || text.eq_ignore_ascii_case("pass");
    match place {
        "row/source_ip" => row.source_ip = owned(),
        "row/count" => row.count = text.parse().map_err(|_| XmlError::Number("count"))?,
        "row/policy_evaluated/disposition" => row.disposition = Disposition::of(text),
        "row/policy_evaluated/dkim" => row.dkim_aligned = passes(),
        "row/policy_evaluated/spf" => row.spf_aligned = passes(),
        "identifiers/envelope_to" => row.envelope_to = owned(),
        "identifiers/envelope_from" => row.envelope_from = Some(owned()),
        "identifiers/header_from" => row.header_from = owned(),
        _ => {
            let (reason, dkim, spf) = (row.reasons.last_mut(), row.dkim.last_mut(), row.spf.last_mut());
            match (place, reason, dkim, spf) {
                ("row/policy_evaluated/reason/type", Some(reason), ..) => reason.kind = owned(),
                ("row/policy_evaluated/reason/comment", Some(reason), ..) => reason.comment = owned(),
                ("auth_results/dkim/domain", _, Some(dkim), _) => dkim.domain = owned(),
                ("auth_results/dkim/selector", _, Some(dkim), _) => dkim.selector = owned(),
                ("auth_results/dkim/result", _, Some(dkim), _) => dkim.result = text.to_ascii_lowercase(),
                ("auth_results/dkim/human_result", _, Some(dkim), _) => dkim.human_result = owned(),
                ("auth_results/spf/domain", _, _, Some(spf)) => spf.domain = owned(),
                ("auth_results/spf/scope", _, _, Some(spf)) => spf.scope = text.to_ascii_lowercase(),
                ("auth_results/spf/result", _, _, Some(spf)) => spf.result = text.to_ascii_lowercase(),
                ("auth_results/spf/human_result", _, _, Some(spf)) => spf.human_result = owned(),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Adds to a list that has its limit.
fn add<T>(list: &mut Vec<T>, new: T) {
    if list.len() < MAX_OF_ROW {
        list.push(new);
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use proptest::prelude::*;

    /// As a large receiver writes them, with the elements of RFC 7489 appendix B.2.1 and some habits of others.
    const SAMPLE: &str = r#"<?xml version="1.0" encoding="UTF-8" ?>
<!DOCTYPE feedback [<!ENTITY big "0123456789"><!ENTITY bigger "&big;&big;&big;">]>
<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0">
  <report_metadata>
    <org_name>Receiver &amp; Co.</org_name>
    <email>noreply@receiver.example</email>
    <report_id>1234 &bigger; &#x41;</report_id>
    <date_range><begin>1704067200</begin><end> 1704153599 </end></date_range>
    <error/>
    <generator><![CDATA[a <b>]]></generator>
  </report_metadata>
  <policy_published>
    <domain>sender.example</domain><adkim>R</adkim><aspf>s</aspf><p>reject</p><sp></sp><np>quarantine</np><pct>100</pct><fo>1:d</fo><testing>y</testing>
  </policy_published>
  <extension><x:more xmlns:x="urn:x"><x:deep>1</x:deep></x:more></extension>
  <record>
    <row><source_ip>192.0.2.1</source_ip><count>2</count>
      <policy_evaluated><disposition>none</disposition><dkim>fail</dkim><spf>pass</spf>
        <reason><type>mailing_list</type><comment>by rule</comment></reason><reason><type>other</type></reason></policy_evaluated></row>
    <identifiers><envelope_from></envelope_from><header_from>sub.sender.example</header_from></identifiers>
    <auth_results>
      <dkim><domain>sender.example</domain><result>FAIL</result><human_result>body</human_result></dkim>
      <dkim><domain>list.example</domain><selector>s</selector><result>pass</result></dkim>
      <spf><domain>sender.example</domain><scope>mfrom</scope><result>pass</result></spf>
    </auth_results>
  </record>
  <record><row><source_ip>2001:db8::1</source_ip><policy_evaluated><disposition>odd</disposition></policy_evaluated></row></record>
</feedback>"#;

    #[test]
    fn what_others_write() {
        let report = Feedback::from_xml(SAMPLE.as_bytes()).unwrap();
        assert_eq!(report.metadata.organization, "Receiver & Co.");
        assert_eq!(report.metadata.id, "1234 &bigger; A", "nothing is expanded");
        assert_eq!((report.metadata.begin.secs(), report.metadata.end.secs()), (1_704_067_200, 1_704_153_599));
        assert_eq!(report.metadata.generator, "a <b>");
        let published = &report.published;
        assert_eq!((published.dkim_alignment, published.spf_alignment), (Some(Alignment::Relaxed), Some(Alignment::Strict)));
        assert_eq!((published.subdomain_policy, published.nonexistent_policy), (None, Some(Policy::Quarantine)));
        assert!(published.testing);
        let [first, second] = report.rows.as_slice() else { panic!("two rows") };
        assert_eq!((first.count, first.dkim_aligned, first.spf_aligned), (2, false, true));
        assert_eq!(first.reasons.iter().map(|r| r.kind.as_str()).collect::<Vec<_>>(), ["mailing_list", "other"]);
        assert_eq!(first.envelope_from.as_deref(), Some(""));
        assert_eq!(first.dkim.iter().map(|d| d.result.as_str()).collect::<Vec<_>>(), ["fail", "pass"]);
        assert_eq!((second.count, second.disposition, second.envelope_from.as_deref()), (1, Disposition::None, None));
        let want = Summary { total: 3, none: 3, dkim_fail: 3, spf_fail: 1, overridden: 2, ..Summary::default() };
        assert_eq!(report.summary(), want);
        assert_eq!(Feedback::from_xml(report.to_xml().as_bytes()).unwrap(), report);
    }

    #[test]
    fn what_isnt_a_report() {
        let row = "<record><row><source_ip>192.0.2.1</source_ip></row></record>";
        for (xml, want) in [
            (String::new(), "not a whole"),
            ("hello".to_owned(), "not a whole"),
            ("<feedback>".to_owned(), "not a whole"),
            ("<feedback></x>".to_owned(), "bad xml"),
            ("<html></html>".to_owned(), "not a whole"),
            ("<feedback></feedback>".to_owned(), "bad date range"),
            (SAMPLE.replace("1704067200", "yesterday"), "bad begin"),
            (SAMPLE.replace("<count>2<", "<count>-2<"), "bad count"),
            ("<a>".repeat(100), "xml too large"),
            (format!("<feedback>{}</feedback>", "<record/>".repeat(MAX_ROWS + 1)), "xml too large"),
            (" ".repeat(MAX_REPORT + 1), "xml too large"),
            (SAMPLE.get(..1500).unwrap_or_default().to_owned(), "not a whole"),
        ] {
            let error = Feedback::from_xml(xml.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}, not {want}: {:.60}", xml);
        }
        // What is too much of one row is dropped.
        let many = SAMPLE.replace("<reason><type>other</type></reason>", &"<reason><type>other</type></reason>".repeat(500));
        let long = many.replace("by rule", &"x".repeat(5000));
        let report = Feedback::from_xml(long.replace("</feedback>", &format!("{row}</feedback>")).as_bytes()).unwrap();
        assert_eq!((report.rows.len(), report.rows[0].reasons.len()), (3, MAX_OF_ROW));
        assert_eq!(report.rows[0].reasons[0].comment.len(), MAX_TEXT);
    }

    /// Entities that would expand to gigabytes, if they were expanded.
    #[test]
    fn entities_don_t_explode() {
        let mut laughs = String::from("<!DOCTYPE feedback [<!ENTITY l0 \"lol\">");
        for n in 1..10 {
            laughs += &format!("<!ENTITY l{n} \"{}\">", format!("&l{};", n - 1).repeat(10));
        }
        let xml = SAMPLE.split_once("<feedback").map(|(_, rest)| format!("{laughs}]><feedback{rest}")).unwrap();
        let report = Feedback::from_xml(xml.replace("&bigger;", "&l9;").as_bytes()).unwrap();
        assert_eq!(report.metadata.id, "1234 &l9; A");
    }

    fn text() -> impl Strategy<Value = String> {
        "[ -~äß€]{0,20}".prop_map(|text| text.trim().to_owned())
    }

    fn word() -> impl Strategy<Value = String> {
        "[a-z_]{1,12}"
    }

    prop_compose! {
        fn row()(
            source_ip in word(), count: u64, disposition in 0..4_usize, aligned: (bool, bool),
            reasons in prop::collection::vec((word(), text()), 0..3), to in text(), from in prop::option::of(text()), header_from in text(),
            dkim in prop::collection::vec((text(), text(), word(), text()), 0..3), spf in prop::collection::vec((text(), word(), word(), text()), 0..2),
        ) -> Row {
            Row {
                source_ip, count,
                disposition: [Disposition::None, Disposition::Pass, Disposition::Quarantine, Disposition::Reject][disposition],
                dkim_aligned: aligned.0,
                spf_aligned: aligned.1,
                reasons: reasons.into_iter().map(|(kind, comment)| Reason { kind, comment }).collect(),
                envelope_to: to, envelope_from: from, header_from,
                dkim: dkim.into_iter().map(|(domain, selector, result, human_result)| DkimAuth { domain, selector, result, human_result }).collect(),
                spf: spf.into_iter().map(|(domain, scope, result, human_result)| SpfAuth { domain, scope, result, human_result }).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn written_and_read(rows in prop::collection::vec(row(), 0..4), texts in prop::collection::vec(text(), 6), secs in 0_i64..5_000_000_000) {
            let metadata = Metadata {
                organization: texts[0].clone(), email: texts[1].clone(), extra_contact: texts[2].clone(), id: texts[3].clone(),
                begin: Timestamp::from_secs(secs), end: Timestamp::from_secs(secs + 1),
                errors: vec![texts[4].clone()], generator: texts[5].clone(),
            };
            let published = Published { domain: texts[0].clone(), percentage: Some(7), ..Published::default() };
            let report = Feedback { metadata, published, rows };
            prop_assert_eq!(&Feedback::from_xml(report.to_xml().as_bytes()).unwrap(), &report);
            prop_assert_eq!(&Feedback::from_gzip(&report.to_gzip().unwrap()).unwrap(), &report);
            for row in &report.rows {
                prop_assert_eq!(&Row::from_xml(&row.to_xml()).unwrap(), row);
            }
            prop_assert_eq!(&Published::from_xml(&report.published.to_xml()).unwrap(), &report.published);
        }

        #[test]
        fn never_panics(at in 0..SAMPLE.len(), bytes in prop::collection::vec(any::<u8>(), 1..6), cut: bool) {
            let mut xml = SAMPLE.as_bytes().to_vec();
            let rest = if cut { xml.split_off(at) } else { xml.split_off(at).split_off(1) };
            xml.extend_from_slice(&bytes);
            xml.extend_from_slice(if cut { &[] } else { &rest });
            let _read = Feedback::from_xml(&xml);
        }
    }
}
