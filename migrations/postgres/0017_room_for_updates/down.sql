ALTER TABLE terminals RESET (fillfactor);
