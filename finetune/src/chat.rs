//! Prompts and responses as a model's chat template writes them.

use crate::Error;
use crate::tokenizer::Tokens;
use minijinja::{Environment, context};

/// A chat template with the tokens that it names.
#[derive(Debug, Clone)]
pub struct Chat {
    /// In Jinja.
    pub template: String,
    /// How the token is written that begins a text.
    pub begin: String,
    /// How the token is written that ends a turn.
    pub end: String,
}

impl Chat {
    /// Of a template and the tokens that it names.
    pub fn new(template: String, begin: String, end: String) -> Self {
        Self { template, begin, end }
    }

    /// A user's turn, after which the model answers.
    ///
    /// # Errors
    /// [`Error::Template`] if the template fails.
    pub fn prompt(&self, prompt: &str) -> Result<String, Error> {
        self.render(&[("user", prompt)], true)
    }

    /// Prompt and response as tokens; the response ends with the token that ends a turn, and what a template puts
    /// behind it is left out.
    ///
    /// # Errors
    /// [`Error::Template`] if the template fails, or does not put the response behind the prompt.
    pub fn tokens(
        &self,
        tokens: &Tokens,
        prompt: &str,
        response: &str,
    ) -> Result<(Vec<u32>, Vec<u32>), Error> {
        let whole = self.render(&[("user", prompt), ("assistant", response)], false)?;
        let prompt = self.prompt(prompt)?;
        let answer = whole.strip_prefix(&prompt).ok_or_else(|| Error::Template {
            what: "a prompt with its response does not begin with the prompt".to_owned(),
        })?;
        let mut answer = tokens.encode(answer)?;
        match answer.iter().rposition(|&token| token == tokens.end) {
            Some(last) => answer.truncate(last + 1),
            None => answer.push(tokens.end),
        }
        Ok((tokens.encode(&prompt)?, answer))
    }

    fn render(&self, turns: &[(&str, &str)], answer: bool) -> Result<String, Error> {
        let messages: Vec<_> = turns.iter().map(|(role, content)| context! { role, content }).collect();
        let failed = |error: minijinja::Error| Error::Template { what: error.to_string() };
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |what: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, what))
        });
        // Some templates write the date, which would make training depend on the day.
        environment.add_function("strftime_now", |_format: String| "26 Jul 2024");
        environment.add_template("chat", &self.template).map_err(failed)?;
        let template = environment.get_template("chat").map_err(failed)?;
        let values = context! {
            messages, add_generation_prompt => answer, bos_token => self.begin, eos_token => self.end,
        };
        template.render(values).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_know_what_they_are_given() {
        let template = "{{ bos_token }}{% for m in messages %}\n  {% if m.role.strip() == 'user' %}\nU: {{ m['content'] }}\n{% else %}\nA: {{ m.content }}{{ eos_token }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}A: {% endif %}";
        let chat = Chat::new(template.to_owned(), "<s>".to_owned(), "</s>".to_owned());
        assert_eq!(chat.prompt("hi").unwrap(), "<s>U: hi\nA: ");
        let failing =
            Chat::new("{{ raise_exception('no system turn') }}".to_owned(), String::new(), String::new());
        assert!(failing.prompt("hi").unwrap_err().to_string().contains("no system turn"));
    }
}
