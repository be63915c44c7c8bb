"""Alerts for people: kinds of alerts, subscriptions, channels, messages, how they are sent. No database here."""
