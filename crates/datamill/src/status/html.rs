//! Markup as it is written: what is not part of the program is always escaped.

use crate::report::text::{bytes, count, printable};

/// A piece of a page. Markup can only be a text of the program itself, so that no name of a file ever is.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// A text from anywhere, with its control characters written out.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for c in printable(text).chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
        self
    }

    /// A name of a file: whatever direction its letters have, the text around it keeps its own.
    pub(super) fn name(&mut self, name: &str) -> &mut Self {
        self.raw("<bdi class=\"name\">").text(name).raw("</bdi>")
    }

    /// A number for people, and as it is.
    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.value(number, &count(number))
    }

    /// A number of bytes.
    pub(super) fn bytes(&mut self, number: u64) -> &mut Self {
        self.value(number, &bytes(number))
    }

    fn value(&mut self, number: u64, shown: &str) -> &mut Self {
        self.raw("<data value=\"").text(&number.to_string()).raw("\">").text(shown).raw("</data>")
    }

    /// How much of something is there.
    pub(super) fn progress(&mut self, there: u64, all: u64) -> &mut Self {
        self.raw("<progress value=\"").text(&there.to_string()).raw("\" max=\"").text(&all.to_string());
        self.raw("\"></progress>")
    }

    pub(super) fn done(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_file_is_called_it_is_no_markup() {
        let mut html = Html::default();
        html.name("<script>alert('1')</script>\"&\u{7}\r\n");
        assert_eq!(
            html.done(),
            "<bdi class=\"name\">&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;\\u{7}\\r\\n</bdi>"
        );
    }

    #[test]
    fn a_number_is_there_for_people_and_for_programs() {
        let mut html = Html::default();
        html.number(12_345).bytes(2_000_000).progress(1, 3);
        assert_eq!(
            html.done(),
            "<data value=\"12345\">12,345</data><data value=\"2000000\">2.0 MB</data><progress value=\"1\" max=\"3\"></progress>"
        );
    }
}
