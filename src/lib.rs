//! `oms`: an event-sourced ontology service.
pub mod domain;
