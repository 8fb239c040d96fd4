"""From records to tables, figures and statistics: `fm-al-report DIR`; imports no torch."""
