//! Colours, or none of them: without colours words and weight say the same.

use ratatui::style::{Color, Modifier, Style};

/// How things look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    pub has_colour: bool,
}

impl Theme {
    /// As the environment wants it: <https://no-color.org>.
    pub fn of_environment() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            has_colour: !unwanted,
        }
    }

    fn coloured(self, colour: Color, otherwise: Modifier) -> Style {
        match self.has_colour {
            true => Style::new().fg(colour),
            false => Style::new().add_modifier(otherwise),
        }
    }

    fn badge(self, colour: Color) -> Style {
        match self.has_colour {
            true => Style::new()
                .fg(Color::Black)
                .bg(colour)
                .add_modifier(Modifier::BOLD),
            false => Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD),
        }
    }

    pub fn plain(self) -> Style {
        Style::new()
    }

    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub fn dim(self) -> Style {
        self.coloured(Color::DarkGray, Modifier::DIM)
    }

    pub fn good(self) -> Style {
        self.coloured(Color::Green, Modifier::empty())
    }

    pub fn warn(self) -> Style {
        self.coloured(Color::Yellow, Modifier::BOLD)
    }

    pub fn bad(self) -> Style {
        self.coloured(Color::Red, Modifier::BOLD)
    }

    pub fn good_badge(self) -> Style {
        self.badge(Color::Green)
    }

    pub fn warn_badge(self) -> Style {
        self.badge(Color::Yellow)
    }

    pub fn bad_badge(self) -> Style {
        self.badge(Color::Red)
    }

    /// What is chosen of several.
    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
